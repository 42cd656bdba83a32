import { familiarReference } from '@strata/oci'
import { expect, it } from 'vitest'
import { resolveArchive } from '../images/resolve.js'
import { listArchive } from './list-archive.js'
import { difference, makeArchive, makeLayer, manyLayers, type Tree, type TreeEntry } from './make-image.js'

const tree = (entries: Record<string, TreeEntry>): Tree => new Map(Object.entries(entries))

it('the difference of two trees is what is new, what is other, and a whiteout for what is gone', () => {
  const before = tree({
    a: { folder: true },
    'a/same': { content: '1' },
    'a/other': { content: '1' },
    'a/gone': { content: '1' },
    old: { folder: true },
    'old/x': { content: '1' },
  })
  const after = tree({
    a: { folder: true },
    'a/same': { content: '1' },
    'a/other': { content: '2' },
    'a/new': { symlink: 'same' },
  })
  expect([...difference(before, after)]).toEqual([
    ['a/.wh.gone', { content: '' }],
    ['.wh.old', { content: '' }],
    ['a/other', { content: '2' }],
    ['a/new', { symlink: 'same' }],
  ])
})

it('an archive of two images holds a shared layer once and resolves', async () => {
  const [shared, own] = [await makeLayer(tree({ a: { content: 'a' } })), await makeLayer(tree({ b: { folder: true } }))]
  const { listing, readSmall } = listArchive(
    await makeArchive({ names: ['x:1'], layers: [shared] }, { names: ['x:2', 'y'], layers: [shared, own] }),
  )
  expect(listing.entries).toHaveLength(5)
  const images = await resolveArchive(listing, readSmall)
  expect(images.map(({ names, layers }) => [names.map(familiarReference), layers.length])).toEqual([
    [['x:1'], 1],
    [['x:2', 'y:latest'], 2],
  ])
})

it('makes as many layers as asked for, all different', async () => {
  expect(new Set((await manyLayers(127)).map(String)).size).toBe(127)
})
