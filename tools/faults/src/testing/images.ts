import { randomBytes } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { busyboxTree, makeLayer } from '@strata/archive/testing'
import { digestOf, hexOf } from '@strata/oci'

let base: Promise<Buffer> | undefined
/** This machine's busybox as one layer, made once: all images of a test share it. */
const busyboxLayer = (): Promise<Buffer> => (base ??= makeLayer(busyboxTree()))

/** A layer that no other image has, of about `size` bytes that do not compress. */
export function ownLayer(size = 60_000): Promise<Buffer> {
  return makeLayer(new Map([['own', { content: randomBytes(size) }]]))
}

/** A layer as it travels, and what its image says that it unpacks to. */
export interface PackedLayer {
  readonly bytes: Buffer
  readonly diffId: string
}

/** Packed by gzip, so that it has to be inflated, proven and indexed on its way in. */
export function packed(layer: Buffer): PackedLayer {
  return { bytes: gzipSync(layer, { level: 1 }), diffId: digestOf(layer) }
}

/**
 * An archive of one image: busybox, and above it the given layers, a packed one of its own if none
 * are given.
 */
export async function archiveOf(names: readonly string[], above?: readonly PackedLayer[]): Promise<Buffer> {
  const busybox = await busyboxLayer()
  const layers: readonly PackedLayer[] = [
    { bytes: busybox, diffId: digestOf(busybox) },
    ...(above ?? [packed(await ownLayer())]),
  ]
  const files = new Map<string, { content: Buffer | string }>()
  const Layers = layers.map(({ bytes }) => {
    const path = `${hexOf(digestOf(bytes))}.tar`
    files.set(path, { content: bytes })
    return path
  })
  const config = JSON.stringify({
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Env: ['PATH=/bin'] },
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
  })
  files.set('config.json', { content: config })
  files.set('manifest.json', { content: JSON.stringify([{ Config: 'config.json', RepoTags: names, Layers }]) })
  return makeLayer(files)
}
