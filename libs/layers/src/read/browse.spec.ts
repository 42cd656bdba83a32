import { describe, expect, it, vi } from 'vitest'
import { TarReader } from '@strata/archive'
import { diffTrees } from './tree-diff.js'
import { exportTree, pieceLength, slicePieces, type ExportPiece } from './export-tree.js'
import { filePieces } from './file-pieces.js'
import { IndexBuilder } from '../index/index-builder.js'
import { layerTree } from '../merge/layer-tree.js'
import { LayerIndex } from '../index/layer-index.js'
import { resolvePath } from './resolve-path.js'
import { layerOf, type Given } from '../testing/layer-of.js'
import { linked, shown } from '../testing/shown.js'
import { mergeLayers } from '../merge/tree-merger.js'
import { MergedTree } from '../merge/merged-tree.js'

const treeOf = (...layers: (Given | string)[][]): MergedTree => mergeLayers(layers.map((given) => layerOf(...given)))
const symlink = (path: string, target: string): Given => ({ path, type: 'symlink', target })

describe('a path', () => {
  const tree = treeOf([
    'usr/bin/sh',
    'etc/passwd',
    symlink('bin', 'usr/bin'),
    symlink('abs', '/usr/bin/sh'),
    symlink('out', '../../../../etc/passwd'),
    symlink('usr/up', '..'),
    symlink('loop', 'loop'),
    symlink('a', 'b/'),
    symlink('b', 'etc'),
    symlink('trailing', 'etc/passwd/'),
    { path: Buffer.from([0x78, 0xff]), type: 'file' },
  ])
  const at = (path: string | Buffer): string => tree.path(resolvePath(tree, Buffer.from(path))).toString('latin1')

  it.each([
    ['', ''],
    ['/', ''],
    ['.', ''],
    ['//etc//passwd', 'etc/passwd'],
    ['bin/sh', 'usr/bin/sh'],
    ['/abs', 'usr/bin/sh'],
    ['out', 'etc/passwd'],
    ['../../etc/./passwd', 'etc/passwd'],
    ['usr/up/etc', 'etc'],
    ['bin/..', 'usr'],
    ['bin/', 'usr/bin'],
    ['a', 'etc'],
    ['a/passwd', 'etc/passwd'],
  ])('%s is %s', (path, found) => expect(at(path)).toBe(found))

  it('is bytes', () => expect(at(Buffer.from([0x78, 0xff]))).toBe('x\xff'))

  it.each([
    ['gone', 'not_found'],
    ['etc/passwd/', 'not_found'],
    ['etc/passwd/x', 'not_found'],
    ['etc/passwd/..', 'not_found'],
    ['trailing', 'not_found'],
    ['loop', 'bad_request'],
    ['loop/x', 'bad_request'],
    ['a\0b', 'bad_request'],
    ['x/'.repeat(2048), 'bad_request'],
  ])('%s is refused: %s', (path, code) => expect(() => at(path)).toThrow(expect.objectContaining({ code }) as Error))
})

describe('one layer as a tree', () => {
  it('shows what the layer says, not what is seen', () => {
    const tree = layerTree(
      layerOf(
        'dir/file',
        'dir/.wh.gone',
        { path: 'hard', type: 'hardlink', target: 'dir/file' },
        { path: 'low', type: 'hardlink', target: 'below' },
      ),
    )
    expect(
      Array.from(
        { length: tree.nodeCount },
        (_, node) => `${tree.kind(tree.inode(node))} ${tree.path(node).toString()}`,
      ),
    ).toEqual(['1 ', '1 dir', '0 hard', '7 low', '0 dir/file', '8 dir/gone'])
    expect(linked(tree)).toEqual([['hard', 'dir/file']])
  })
})

describe('a difference', () => {
  const lines = (before: MergedTree, after: MergedTree, behind?: string): string[] =>
    [...diffTrees(before, after, behind === undefined ? undefined : Buffer.from(behind))].flatMap((step) => {
      if (step.kind === 'same') return []
      const path = 'after' in step ? after.path(step.after) : before.path(step.before)
      return [`${step.kind} ${path.toString()}${step.kind === 'changed' ? ` ${step.aspects.join()}` : ''}`]
    })
  const base = layerOf(
    { path: 'a', size: 3 },
    'd/x',
    'd/y/z',
    { path: 'l', type: 'symlink', target: '1' },
    { path: 'c', type: 'char', devMajor: 1, devMinor: 3 },
  )

  it('of a tree and itself is nothing', () => expect(lines(mergeLayers([base]), mergeLayers([base]))).toEqual([]))

  it('names what came, went and changed, one by one', () => {
    const over = layerOf(
      { path: 'a', size: 4, uid: 5 },
      '.wh.d',
      'd/n',
      { path: 'l', type: 'symlink', target: '2' },
      { path: 'c', type: 'char', devMajor: 1, devMinor: 5 },
      'e/f',
    )
    const [before, after] = [mergeLayers([base]), mergeLayers([base, over])]
    expect(lines(before, after)).toEqual([
      'changed a size,owner',
      'changed c device',
      'added d/n',
      'removed d/x',
      'removed d/y',
      'removed d/y/z',
      'added e',
      'added e/f',
      'changed l target',
    ])
    expect(lines(after, before)).toEqual([
      'changed a size,owner',
      'changed c device',
      'removed d/n',
      'added d/x',
      'added d/y',
      'added d/y/z',
      'removed e',
      'removed e/f',
      'changed l target',
    ])
  })

  it('says of files that look alike that it has not read them', () => {
    expect(lines(treeOf([{ path: 'a', size: 3 }]), treeOf(['b/c'], [{ path: 'a', size: 3 }]))).toEqual([
      'alike a',
      'added b',
      'added b/c',
    ])
    expect(lines(treeOf(['a']), treeOf(['z/'], ['a', '.wh.z']))).toEqual([])
  })

  it('leaves the times of folders out, and is not tired by many and deep ones', () => {
    expect(
      lines(treeOf([{ path: 'd', type: 'directory', mtime: 1 }]), treeOf([{ path: 'd', type: 'directory', mtime: 2 }])),
    ).toEqual([])
    const deep = Array.from({ length: 1000 }, () => 'd').join('/')
    expect(lines(treeOf([]), treeOf([deep])).length).toBe(1000)
    expect(lines(treeOf([]), treeOf([Array.from({ length: 100_000 }, (_, n) => `f${n}`)].flat())).length).toBe(100_000)
  })
})

describe('a difference behind a path', () => {
  const paths = (before: MergedTree, after: MergedTree, behind?: string): string[] =>
    [...diffTrees(before, after, behind === undefined ? undefined : Buffer.from(behind))].map((step) =>
      step.kind === 'same' ? 'same' : ('after' in step ? after.path(step.after) : before.path(step.before)).toString(),
    )
  const before = treeOf(['a', 'd/x', 'd/y/z', 'd-e', 'only/old/f', 'swap/in', { path: 'z', size: 1 }])
  const after = treeOf(['b', 'd/n', 'd/y/w', 'd.e', 'only2/new', 'swap', { path: 'z', size: 2 }])

  it('is the rest of the whole, whatever of it the path is', () => {
    const whole = paths(before, after)
    expect(whole[0]).toBe('same')
    expect(paths(before, after, '')).toEqual(whole.slice(1))
    for (const [at, path] of whole.entries())
      if (path !== 'same') expect(paths(before, after, path)).toEqual(whole.slice(at + 1))
  })

  it.each([
    ['0', 'a'],
    ['d/o', 'd/x'],
    ['d/x/deeper', 'd/y/w'],
    ['d/y/zz', 'd-e'],
    ['swap/in/deeper', 'z'],
    ['zz', undefined],
  ])('of %s, which is in neither, is what would come next', (behind, next) => {
    expect(paths(before, after, behind).filter((path) => path !== 'same')[0]).toBe(next)
  })

  it('is found without looking at what comes before', () => {
    const many = treeOf(Array.from({ length: 50_000 }, (_, n) => `d${n % 10}/f${n}`))
    const none = treeOf([])
    const looks = vi.spyOn(MergedTree.prototype, 'name')
    const step = diffTrees(none, many, Buffer.from('d9/f49989')).next()
    expect(step.value).toMatchObject({ kind: 'added' })
    expect(looks.mock.calls.length).toBeLessThan(100)
    looks.mockRestore()
  })
})

describe('the bytes of a file', () => {
  it('are one run, or runs and holes', () => {
    const sparse = [
      { offset: 10, size: 5, dataOffset: 2048 },
      { offset: 20, size: 10, dataOffset: 2053 },
    ]
    const tree = treeOf([
      { path: 'a', size: 100 },
      { path: 's', size: 50, storedSize: 15, dataOffset: 2048, sparse },
    ])
    const pieces = (path: string, start: number, end: number): unknown[] => [
      ...filePieces(tree, tree.inode(tree.lookup(path)!), { start, end }),
    ]
    expect(pieces('a', 10, 60)).toEqual([{ start: 522, end: 572 }])
    expect(pieces('a', 0, 0)).toEqual([])
    expect(pieces('s', 0, 50)).toEqual([
      { zeros: 10 },
      { start: 2048, end: 2053 },
      { zeros: 5 },
      { start: 2053, end: 2063 },
      { zeros: 20 },
    ])
    expect(pieces('s', 12, 22)).toEqual([{ start: 2050, end: 2053 }, { zeros: 5 }, { start: 2053, end: 2055 }])
    expect(pieces('s', 40, 45)).toEqual([{ zeros: 5 }])
  })
})

describe('an export', () => {
  const layers = [
    layerOf(
      { path: '.', type: 'directory', mode: 0o751 },
      { path: 'z', size: 3 },
      { path: 'gone', size: 700 },
      { path: 'a', size: 600 },
      { path: 'h', type: 'hardlink', target: 'a' },
      { path: 'fifo', type: 'fifo' },
    ),
    layerOf(
      '.wh.gone',
      { path: 'd/s', size: 5000, storedSize: 2, sparse: [{ offset: 4096, size: 2, dataOffset: 1024 }] },
      { path: 'i', type: 'hardlink', target: 'a' },
      symlink('l', 't'),
      { path: 'empty', ownXattrs: [[Buffer.from('user.a'), Buffer.from('b')]] },
    ),
  ]
  const tree = mergeLayers(layers)

  it('holds the tree that a layer of it would be', () => {
    const builder = new IndexBuilder()
    const reader = new TarReader(builder)
    let size = 0
    for (const piece of exportTree(tree)) {
      reader.write('bytes' in piece ? piece.bytes : Buffer.alloc(piece.end - piece.start))
      size += pieceLength(piece)
    }
    reader.end()
    const again = mergeLayers([LayerIndex.decode(builder.finish(size).encode())])
    expect(shown(again)).toEqual(shown(tree))
    expect(linked(again)).toEqual([['a', 'h', 'i']])
    expect(again.mode(0)).toBe(0o40755)
    expect([...diffTrees(tree, again)].filter(({ kind }) => kind !== 'alike' && kind !== 'same')).toEqual([])
  })

  it('reads each layer once, from its beginning to its end', () => {
    const parts = [...exportTree(tree)].filter((piece) => 'layer' in piece)
    expect(parts).toEqual([
      { layer: 0, start: 1024, end: 1027 },
      { layer: 0, start: 3584, end: 4184 },
      { layer: 1, start: 1024, end: 1026 },
    ])
  })

  it('looks at the map of a sparse file as often as it writes it', () => {
    const map = Array.from({ length: 100 }, (_, at) => ({ offset: 2 * at, size: 1, dataOffset: 0 }))
    const files = Array.from({ length: 200 }, (_, n) => ({
      path: `f${n}`,
      size: 200,
      storedSize: 100,
      sparse: map.map(({ offset, size }, at) => ({ offset, size, dataOffset: 512 * (2 * n + 2) + at })),
    }))
    const many = mergeLayers([layerOf(...files)])
    const looks = vi.spyOn(many.layers[0]!, 'sparse')
    expect([...exportTree(many)].filter((piece) => 'layer' in piece)).toHaveLength(20_000)
    expect(looks.mock.calls.length).toBeLessThan(3 * files.length)
  })

  it('can be cut anywhere', async () => {
    const bytesOf = async (pieces: Iterable<ExportPiece> | AsyncIterable<ExportPiece>): Promise<Buffer> => {
      const parts: Uint8Array[] = []
      for await (const piece of pieces)
        parts.push(
          'bytes' in piece
            ? piece.bytes
            : Uint8Array.from({ length: piece.end - piece.start }, (_, n) => (piece.start + n) % 251),
        )
      return Buffer.concat(parts)
    }
    const whole = await bytesOf(exportTree(tree))
    for (let start = 0; start < whole.length; start += 371) {
      const end = Math.min(whole.length, start + 1000)
      expect((await bytesOf(slicePieces(exportTree(tree), { start, end }))).equals(whole.subarray(start, end))).toBe(
        true,
      )
    }
  })
})
