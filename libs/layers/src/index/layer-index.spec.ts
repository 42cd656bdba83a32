import { inflateRawSync } from 'node:zlib'
import { StrataError } from '@strata/base'
import { describe, expect, it } from 'vitest'
import { KIND } from '../kind.js'
import { LayerIndex } from './layer-index.js'
import { layerOf } from '../testing/layer-of.js'
import { mergeLayers } from '../merge/tree-merger.js'

const index = layerOf(
  { path: 'dir', type: 'directory' },
  {
    path: 'dir/b',
    size: 1000,
    ownXattrs: [
      [Buffer.from('user.a'), Buffer.from('1')],
      [Buffer.from('user.b'), Buffer.alloc(0)],
    ],
  },
  'dir/a',
  { path: 'link', type: 'symlink', target: 'dir/a' },
  { path: 'hard', type: 'hardlink', target: 'dir/b' },
  { path: 'below', type: 'hardlink', target: '/x/./y' },
  {
    path: 'sparse',
    size: 10_000,
    storedSize: 3,
    sparse: [
      { offset: 512, size: 3, dataOffset: 4096 },
      { offset: 10_000, size: 0, dataOffset: 4099 },
    ],
  },
  { path: 'hole', size: 10_000, storedSize: 0, sparse: [] },
  { path: 'dev', type: 'char', devMajor: 1, devMinor: 300 },
  'x/.wh.gone',
  'x/.wh..wh..opq',
)
const encoded = index.encode()
const corrupt = expect.objectContaining({ code: 'corrupt' }) as StrataError

function everything(of: LayerIndex): unknown[] {
  return Array.from({ length: of.count }, (_, entry) => [
    of.path(entry),
    of.kind(entry),
    of.flags(entry),
    of.mode(entry),
    of.size(entry),
    of.columns.entries.value[entry],
    of.text(entry),
    of.xattrs(entry),
    of.sparse(entry),
    of.firstChild(entry),
  ])
}

describe('an encoded index', () => {
  it('says the same when decoded, at any alignment', () => {
    for (const shift of [0, 1, 4, 8]) {
      const bytes = Buffer.concat([Buffer.alloc(shift), encoded]).subarray(shift)
      expect(everything(LayerIndex.decode(bytes))).toEqual(everything(index))
      expect(LayerIndex.decode(bytes).encode().equals(encoded)).toBe(true)
    }
  })

  it('keeps what it was given', () => {
    const entry = (path: string): number =>
      Array.from({ length: index.count }, (_, number) => number).find(
        (number) => index.path(number).toString() === path,
      )!
    expect(index.text(entry('below')).toString()).toBe('x/y')
    expect([index.kind(entry('dir/b')), index.target(entry('dir/b'))]).toEqual([KIND.link, entry('hard')])
    expect(index.xattrs(entry('hard')).map(([name, value]) => [name.toString(), value.toString()])).toEqual([
      ['user.a', '1'],
      ['user.b', ''],
    ])
    expect(index.sparse(entry('sparse'))).toEqual([{ offset: 512, size: 3, dataOffset: 4096 }])
    expect(index.sparse(entry('hole'))).toEqual([])
    expect([index.major(entry('dev')), index.minor(entry('dev'))]).toEqual([1, 300])
  })

  it('of version 1, which shares no attributes, is read and kept as it is', () => {
    // By the last program that wrote it: a and b with user.a=1 and user.b, c with none, d with
    // security.capability=cap.
    const old = inflateRawSync(
      Buffer.from(
        'Ky4pSixJ9IxgZGBgYGWAgQ0OLFC+AcPQAiB/MDEwMDAzMDCw4BGjxHyYeUxQ89gYGBh4GRgYhBkYGKQYGBh0GRgY2KFiIlAxUDi+ZVwChYxgowQEGAQSk5JTSotTi/QSDcFUEgqnODW5tCizpFIvObEgMSkzJ7OkMjmxAAA=',
        'base64',
      ),
    )
    expect(old.readUInt32LE(8)).toBe(1)
    const read = LayerIndex.decode(old)
    expect(
      [1, 2, 3, 4].map((entry) => read.xattrs(entry).map(([name, value]) => `${name.toString()}=${value.toString()}`)),
    ).toEqual([['user.a=1', 'user.b='], ['user.a=1', 'user.b='], [], ['security.capability=cap']])
    expect(read.encode().equals(old)).toBe(true)
    for (let bit = 0; bit < old.length * 8; bit++) {
      const bytes = Buffer.from(old)
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      try {
        everything(LayerIndex.decode(bytes))
      } catch (error) {
        if (!(error instanceof StrataError) || error.code !== 'corrupt') throw error
      }
    }
  })

  it('without attributes is written as version 1, with them as version 2', () => {
    expect([layerOf('a').encode().readUInt32LE(8), encoded.readUInt32LE(8)]).toEqual([1, 2])
  })

  it('of another length is refused', () => {
    for (let length = 0; length < encoded.length; length += 7)
      expect(() => LayerIndex.decode(encoded.subarray(0, length))).toThrow(corrupt)
    expect(() => LayerIndex.decode(Buffer.concat([encoded, Buffer.alloc(1)]))).toThrow(corrupt)
  })

  /**
   * Whatever bit flips: either `corrupt`, or an index that keeps every rule, so that all of it can
   * be walked, merged and encoded to the very same bytes.
   */
  it('with any bit wrong is refused or still sound', () => {
    let refused = 0
    for (let bit = 0; bit < encoded.length * 8; bit++) {
      const bytes = Buffer.from(encoded)
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      let decoded: LayerIndex
      try {
        decoded = LayerIndex.decode(bytes)
      } catch (error) {
        if (!(error instanceof StrataError) || error.code !== 'corrupt') throw error
        refused++
        continue
      }
      everything(decoded)
      if (!decoded.encode().equals(bytes)) expect.fail(`bit ${bit} of ${encoded.length} bytes is lost`)
      try {
        mergeLayers([layerOf('x/y'), decoded])
      } catch (error) {
        if (!(error instanceof StrataError) || error.code !== 'layer_invalid') throw error
      }
    }
    expect(refused).toBeGreaterThan(encoded.length * 2)
  })

  it.each<[string, (columns: LayerIndex['columns']) => void]>([
    ['the root is no directory', ({ entries }) => (entries.kind[0] = KIND.file)],
    ['an entry stands below a file', ({ entries }) => entries.parent.fill(1, 2)],
    [
      'data lie outside the tar',
      ({ entries }) =>
        entries.value.set(
          [1e9],
          entries.size.findIndex((size) => size === 1000),
        ),
    ],
    ['a link names a directory', ({ entries }) => entries.value.set([0], entries.kind.indexOf(KIND.link))],
    [
      'a link names a later entry',
      ({ entries }) => entries.value.set([entries.kind.length - 1], entries.kind.indexOf(KIND.link)),
    ],
    ['a device is a whiteout', ({ entries }) => entries.value.set([0], entries.kind.indexOf(KIND.char))],
    ['an attribute is trusted', ({ xattrs }) => xattrs.bytes.write('trusted', 0)],
    ['an attribute is of no set', ({ xattrs }) => (xattrs.members[1] = 0)],
    ['a set is of no entry', ({ xattrs }) => (xattrs.set[0] = 1)],
    ['an entry has no attributes and says so', ({ entries }) => (entries.flags[0]! |= 16)],
    [
      'a name is ..',
      ({ entries, names }) => names.write('..', entries.textEnd[0]!) && (entries.nameEnd[1] = entries.textEnd[1] = 2),
    ],
    ['a name has a slash', ({ entries, names }) => names.write('/', entries.textEnd[0]!)],
    ['a size is no number', ({ entries }) => (entries.size[2] = Number.NaN)],
    ['an offset is a fraction', ({ sparse }) => (sparse.data[0] = 0.5)],
  ])('in which %s is refused', (_what, spoil) => {
    const copy = LayerIndex.decode(Buffer.from(encoded))
    spoil(copy.columns)
    expect(() => LayerIndex.decode(copy.encode())).toThrow(corrupt)
  })
})
