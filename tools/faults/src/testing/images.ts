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

/**
 * An archive of one image: busybox, and above it the given layers (one of its own if none are given), packed by gzip, so that they have to be inflated, proven and
 * indexed on their way in.
 */
export async function archiveOf(names: readonly string[], above?: readonly Buffer[]): Promise<Buffer> {
  const layers = [await busyboxLayer(), ...(above ?? [await ownLayer()])]
  const files = new Map<string, { content: Buffer | string }>()
  const Layers = layers.map((layer, place) => {
    const path = `${hexOf(digestOf(layer))}.tar`
    files.set(path, { content: place === 0 ? layer : gzipSync(layer, { level: 1 }) })
    return path
  })
  const config = JSON.stringify({ architecture: process.arch === 'x64' ? 'amd64' : process.arch, os: 'linux', config: { Env: ['PATH=/bin'] }, rootfs: { type: 'layers', diff_ids: layers.map((layer) => digestOf(layer)) } })
  files.set('config.json', { content: config })
  files.set('manifest.json', { content: JSON.stringify([{ Config: 'config.json', RepoTags: names, Layers }]) })
  return makeLayer(files)
}
