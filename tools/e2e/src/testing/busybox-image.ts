import { Readable } from 'node:stream'
import { busyboxTree, makeArchive, makeLayer, type ImageSpec, type Tree, type TreeEntry } from '@strata/archive/testing'
import type { StrataUnderTest } from './strata.js'

let base: Promise<Buffer> | undefined
/** This machine's busybox as one layer, made once. */
export function busyboxLayer(): Promise<Buffer> {
  return (base ??= makeLayer(busyboxTree()))
}

export const layerOf = (entries: Record<string, TreeEntry>): Promise<Buffer> =>
  makeLayer(new Map(Object.entries(entries)) satisfies Tree)

/** Loads an image of the busybox layer and what is laid over it. */
export async function loadBusybox(
  strata: StrataUnderTest,
  name: string,
  layers: readonly Buffer[] = [],
  config: ImageSpec['config'] = {},
): Promise<void> {
  const archive = await makeArchive({
    names: [name],
    layers: [await busyboxLayer(), ...layers],
    config: { Env: ['PATH=/bin'], ...config },
  })
  await strata.load(Readable.from([archive]))
}
