import { createHash } from 'node:crypto'
import { concat, file, pax, paxHeader, ZEROS } from '@strata/archive/testing'
import { IndexMemory } from '@strata/layers'
import { digestFromHex } from '@strata/oci'
import { expect, it } from 'vitest'
import { FileHasher } from './file-hasher.js'
import { LayerIndexer } from './layer-indexer.js'

const MIB = 2 ** 20
/** Uploads have a quarter: two mebibytes, in which an index of 500 KB can be built. */
const memory = new IndexMemory(8 * MIB)
const { shared } = memory.uploads()
const used = (): number => Number(Atomics.load(new BigInt64Array(shared.taken), 0))

const link = (n: number): Buffer =>
  concat(paxHeader(pax('linkpath', 'x'.repeat(4_095))), file(`${n}`, '', { type: '2' }))
const layerOf = (links: number): Buffer => concat(...Array.from({ length: links }, (_, n) => link(n)), ZEROS)
const hasherOf = (layer: Buffer): FileHasher => {
  const hasher = new FileHasher(() => new LayerIndexer({}, shared))
  hasher.write(layer)
  return hasher
}
const digestOf = (bytes: Buffer): string => digestFromHex(createHash('sha256').update(bytes).digest('hex'))

it('a layer that has room is indexed, and its memory is free after that', () => {
  const layer = layerOf(100)
  const hasher = hasherOf(layer)
  expect(used()).toBe(2 * MIB)
  const { facts, index } = hasher.end()
  expect([facts.diffId, index?.length]).toEqual([digestOf(layer), expect.any(Number)])
  expect(used()).toBe(0)
})

it('a layer without room is proven all the same, without an index, and holds nothing', () => {
  const layer = layerOf(300)
  const hasher = hasherOf(layer)
  expect(used()).toBe(0)
  const { facts, index } = hasher.end()
  expect(facts).toMatchObject({ diffId: digestOf(layer), compression: 'none' })
  expect([facts.layerError, index]).toEqual([undefined, undefined])
})

it('many begun uploads have the share together; what they hold is free when they are closed', () => {
  const hashers = Array.from({ length: 32 }, () => hasherOf(layerOf(60).subarray(0, -1024)))
  expect(used()).toBe(2 * MIB)
  for (const hasher of hashers) hasher.release()
  expect(used()).toBe(0)
})
