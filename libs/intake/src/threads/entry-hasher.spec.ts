import { TarReader, decodeListing } from '@strata/archive'
import { concat, file, ZEROS } from '@strata/archive/testing'
import { StrataError } from '@strata/base'
import { describe, expect, it } from 'vitest'
import { EntryHasher } from './entry-hasher.js'
import type { Indexer } from './file-hasher.js'

function hashed(archive: Buffer, indexer: () => Indexer) {
  const indexed: string[] = []
  const hasher = new EntryHasher({
    keyOf: (name) => `data/u/${name}`,
    newIndexer: indexer,
    indexed: (diffId, bytes) => void indexed.push(`${diffId} ${bytes.toString()}`),
    counted: () => undefined,
  })
  const reader = new TarReader(hasher)
  reader.write(archive)
  reader.end()
  return { entries: decodeListing(hasher.listing().bytes).entries, indexed }
}
const namesOnly = (): Indexer => {
  const names: string[] = []
  return {
    entry: (entry) => void names.push(entry.path.toString()) as unknown as boolean,
    data: () => undefined,
    entryEnd: () => undefined,
    finish: (tarSize) => ({ encode: () => Buffer.from(`${names.join()} ${tarSize}`) }),
    release: () => undefined,
  }
}
const layer = concat(file('b', 'y'), ZEROS)

describe('EntryHasher', () => {
  it('indexes what is a tar, whatever its name', () => {
    const { entries, indexed } = hashed(
      concat(file('readme.txt', layer), file('layer.tar', 'no tar'), ZEROS),
      namesOnly,
    )
    expect(indexed).toEqual([`${entries[0]?.digest ?? ''} b ${layer.length}`])
    expect(entries.map((entry) => entry.diffId)).toEqual([entries[0]?.digest, undefined])
    expect(entries.map((entry) => entry.at)).toEqual([
      { object: 'data/u/small', offset: 0 },
      { object: 'data/u/small', offset: layer.length },
    ])
  })

  it('notes why a layer is refused, and goes on', () => {
    const refuse = (code: 'layer_invalid' | 'limit_exceeded') => () => ({
      ...namesOnly(),
      entry: () => {
        throw new StrataError(code, 'no')
      },
    })
    for (const code of ['layer_invalid', 'limit_exceeded'] as const) {
      const { entries, indexed } = hashed(concat(file('l', layer), file('next', 'z'), ZEROS), refuse(code))
      expect(entries).toMatchObject([{ name: 'l', layerError: { code, message: 'no' } }, { name: 'next' }])
      expect(entries[0]?.diffId).toBeUndefined()
      expect(entries[1]?.layerError).toBeUndefined()
      expect(indexed).toEqual([])
    }
    const cut = concat(file('b', 'y'.repeat(600))).subarray(0, 1024)
    expect(hashed(concat(file('l', cut), ZEROS), namesOnly).entries).toMatchObject([
      { layerError: { code: 'layer_invalid' } },
    ])
  })
})
