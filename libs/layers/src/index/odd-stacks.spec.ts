import { TarReader } from '@strata/archive'
import { ODD_STACKS, REFUSED_STACKS } from '@strata/archive/testing'
import { StrataError } from '@strata/base'
import { describe, expect, it } from 'vitest'
import { mergeLayers } from '../merge/tree-merger.js'
import { describedTree } from '../testing/shown.js'
import { IndexBuilder } from './index-builder.js'
import { LayerIndex } from './layer-index.js'

/** As a node has it: read back from its bytes. */
function indexOf(tar: Buffer): LayerIndex {
  const builder = new IndexBuilder()
  const reader = new TarReader(builder)
  reader.write(tar)
  reader.end()
  return LayerIndex.decode(builder.finish(tar.length).encode())
}

describe('what the engines agree on', () => {
  it.each(Object.entries(ODD_STACKS))('%s', (_, { layers, tree }) => {
    expect(describedTree(mergeLayers(layers.map(indexOf)))).toEqual([...tree].sort())
  })
})

describe('what they do not agree on is refused, with the name of the entry', () => {
  it.each(Object.entries(REFUSED_STACKS))('%s', (_, { layers, why }) => {
    expect(() => mergeLayers(layers.map(indexOf))).toThrow(
      expect.objectContaining({
        code: 'layer_invalid',
        message: expect.stringMatching(why) as string,
      }) as StrataError,
    )
  })
})
