import { StrataError } from '@strata/base'
import { describe, expect, it } from 'vitest'
import type { LayerIndex } from '../index/layer-index.js'
import type { Given } from '../testing/layer-of.js'
import { layerOf } from '../testing/layer-of.js'
import { actions, linked, shown } from '../testing/shown.js'
import { mergeLayers, TreeMerger } from './tree-merger.js'

const stack = (...layers: (Given | string)[][]): LayerIndex[] => layers.map((given) => layerOf(...given))
const view = (...layers: (Given | string)[][]): string[] => shown(mergeLayers(stack(...layers)))
const link = (path: string, target: string): Given => ({ path, type: 'hardlink', target })
/** What the last layer asks of a driver. */
const last = (...layers: (Given | string)[][]): string[] => {
  const merger = new TreeMerger()
  return stack(...layers)
    .map((index) => actions(merger.apply(index)))
    .at(-1)!
}

describe('one layer over another', () => {
  it('adds and replaces', () => {
    expect(view(['a', 'c'], ['b', { path: 'c', mode: 0o1 }])).toEqual(['f1 c', 'f600 a', 'f600 b'])
  })

  it('keeps the attributes of a directory that it only implies', () => {
    expect(view([{ path: 'a', type: 'directory', mode: 0o1777 }], ['a/b'])).toEqual(['d1777 a', 'f600 a/b'])
    expect(
      view([{ path: 'a', type: 'directory', mode: 0o1777 }, 'a/x'], [{ path: 'a', type: 'directory', mode: 0o1 }]),
    ).toEqual(['d1 a', 'f600 a/x'])
  })

  it('puts directories over files and files over directories', () => {
    expect(view(['a'], ['a/b'])).toEqual(['d755 a', 'f600 a/b'])
    expect(view([{ path: 'a', type: 'symlink', target: 'x' }], ['a/b'])).toEqual(['d755 a', 'f600 a/b'])
    expect(view(['a/b/c'], ['a'])).toEqual(['f600 a'])
    expect(view(['a/b/c'], ['a'], ['a/'])).toEqual(['d700 a'])
  })
})

describe('whiteouts', () => {
  it('hide what lies below, with all under it', () => {
    expect(view(['a/b/c', 'd'], ['.wh.a'])).toEqual(['f600 d'])
    expect(view(['a/b', 'a/c'], ['a/.wh.b'])).toEqual(['d755 a', 'f600 a/c'])
    expect(view(['a'], ['.wh.a'], ['b'])).toEqual(['f600 b'])
    expect(view(['a'], ['.wh.x'])).toEqual(['f600 a'])
  })

  it('leave their own layer alone, wherever in it they stand', () => {
    for (const given of [
      ['a/new', '.wh.a'],
      ['.wh.a', 'a/new'],
    ])
      expect(view(['a/old', { path: 'a', type: 'directory', mode: 0o1 }], given)).toEqual(['d755 a', 'f600 a/new'])
    for (const given of [
      ['a/new', 'a/.wh..wh..opq'],
      ['a/.wh..wh..opq', 'a/new'],
    ])
      expect(view(['a/old', { path: 'a', type: 'directory', mode: 0o1 }], given)).toEqual(['d1 a', 'f600 a/new'])
    for (const given of [
      ['a', '.wh.a'],
      ['.wh.a', 'a'],
    ])
      expect(view(['a/old'], given)).toEqual(['f600 a'])
  })

  it('of the root empty it', () => {
    expect(view(['a', 'b/c'], ['.wh..wh..opq', 'd'])).toEqual(['f600 d'])
  })
})

describe('hard links', () => {
  it('into the layers below name the file there', () => {
    const tree = mergeLayers(stack([{ path: 'a', mode: 0o1 }], [link('b', 'a')], [link('c', 'b')]))
    expect(linked(tree)).toEqual([['a', 'b', 'c']])
    expect(tree.links(tree.inode(1))).toBe(3)
  })

  it('hold on to a file that goes in the same layer', () => {
    expect(view([{ path: 'a', mode: 0o1 }], ['.wh.a', link('b', 'a')])).toEqual(['f1 b'])
    expect(view([{ path: 'a', mode: 0o1 }], [link('b', 'a'), { path: 'a', mode: 0o2 }])).toEqual(['f2 a', 'f2 b'])
  })

  it('live on when one of their names goes or is replaced later', () => {
    expect(view([{ path: 'z', mode: 0o1 }, link('a', 'z')], ['.wh.z'])).toEqual(['f1 a'])
    expect(view([{ path: 'z', mode: 0o1 }, link('a', 'z')], ['z'])).toEqual(['f1 a', 'f600 z'])
  })

  it.each<[string, (Given | string)[], RegExp]>([
    ['to nothing', [link('b', 'gone')], /"b" names "gone", which is neither in its layer nor below it/],
    ['to a directory below', [link('b', 'dir')], /"b" names "dir", which is a directory/],
  ])('are refused %s, and the layers before stay as they were', (_what, given, message) => {
    const merger = new TreeMerger()
    merger.apply(layerOf('dir/', 'a'))
    expect(() => merger.apply(layerOf('new', ...given))).toThrow(
      expect.objectContaining({
        code: 'layer_invalid',
        message: expect.stringMatching(message) as string,
      }) as StrataError,
    )
    expect(shown(merger.tree())).toEqual(['d700 dir', 'f600 a'])
    merger.apply(layerOf('b'))
    expect(shown(merger.tree())).toEqual(['d700 dir', 'f600 a', 'f600 b'])
  })
})

describe('what a layer asks of a driver with a folder for each', () => {
  it('directories with the attributes from below where it only implies them', () => {
    expect(last(['a/', 'x'], ['a/b', 'c/d'])).toEqual(['directory a from 0:1', 'directory c', 'node a/b', 'node c/d'])
  })

  it('whiteouts and opaque marks only where there is something to hide', () => {
    expect(
      last(['a', 'd/x', 'e/y'], ['.wh.a', '.wh.none', 'd/.wh..wh..opq', 'new/.wh..wh..opq', '.wh.e', 'e/']),
    ).toEqual(['whiteout a', 'directory opaque d from 0:2', 'directory opaque e', 'directory new'])
  })

  it('one copy of a file of the layers below, and links to that', () => {
    expect(last(['a', link('b', 'a')], [link('x', 'a'), link('y', 'b'), link('z', 'x'), 'f', link('g', 'f')])).toEqual([
      'node f',
      'link g to f',
      'node x from 0:1',
      'link y to x',
      'link z to x',
    ])
  })

  it('follows the source of a file through the layers', () => {
    expect(last(['a'], [link('b', 'a')], [link('c', 'b')])).toEqual(['node c from 0:1'])
  })
})

describe('the merged tree', () => {
  it('finds names by their paths, and follows nothing', () => {
    const tree = mergeLayers(stack(['a/b/c', { path: 'l', type: 'symlink', target: 'a' }]))
    const found = (path: string): string | undefined => {
      const node = tree.lookup(path)
      return node === undefined ? undefined : tree.path(node).toString()
    }
    expect(['', '/', 'a/b/c', '/a//b/', 'l', 'l/b', 'a/x', '..', 'a/b/c/d'].map(found)).toEqual([
      '',
      '',
      'a/b/c',
      'a/b',
      'l',
      undefined,
      undefined,
      undefined,
      undefined,
    ])
  })

  it('of no layers is an empty root, and the merger goes on from the first', () => {
    const merger = new TreeMerger()
    expect([merger.tree().nodeCount, merger.tree().mode(0)]).toEqual([1, 0o40755])
    expect(merger.apply(layerOf('a')).layer).toBe(0)
  })

  it('does not depend on the order of the tar', () => {
    const entries = ['b/x', 'a', 'c/d/e', { path: 'c', type: 'directory' as const, mode: 0o5 }]
    expect(
      layerOf('z', 'y', 'x')
        .encode()
        .equals(layerOf('x', 'y', 'z').encode()),
    ).toBe(true)
    expect(shown(mergeLayers([layerOf(...entries)]))).toEqual(shown(mergeLayers([layerOf(...entries.toReversed())])))
  })

  /**
   * The same rules written down naively, over random layers with few names, so that everything
   * meets everything.
   */
  it('agrees with a model that applies layers path by path', () => {
    let seed = 1
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
      return Math.floor((seed / 2 ** 32) * below)
    }
    const names = ['a', 'b', 'c', 'd']
    for (let round = 0; round < 300; round++) {
      const model = new Map<string, string>()
      const merger = new TreeMerger()
      for (let layer = 0; layer < 4; layer++) {
        const given = new Map<string, Given>()
        for (let entry = 0; entry < 6; entry++) {
          const path = Array.from({ length: 1 + random(3) }, () => names[random(4)]!).join('/')
          const under = [...given].some(([other, { type }]) => type === 'file' && path.startsWith(`${other}/`))
          const over = [...given.keys()].some((other) => other.startsWith(`${path}/`))
          if (!under && !given.has(path))
            given.set(path, { path, type: over || random(2) === 0 ? 'directory' : 'file', mode: random(0o1000) })
        }
        const whiteouts = Array.from({ length: 2 }, () =>
          Array.from({ length: 1 + random(2) }, () => names[random(4)]!),
        ).filter((parts) => !given.has(parts[0]!) || given.get(parts[0]!)!.type === 'directory')
        for (const parts of whiteouts) {
          const path = parts.join('/')
          for (const key of [...model.keys()]) if (key === path || key.startsWith(`${path}/`)) model.delete(key)
        }
        // A whiteout implies the folder it stands in, as any entry does.
        const marks = whiteouts.map((parts): Given => ({
          path: [...parts.slice(0, -1), `.wh.${parts.at(-1)!}`].join('/'),
        }))
        const isFile = (path: string): boolean => model.get(path)?.startsWith('f') === true
        const imply = (path: string): void => {
          const parts = path.split('/').slice(0, -1)
          for (let depth = 1; depth <= parts.length; depth++) {
            const above = parts.slice(0, depth).join('/')
            if (!model.has(above) || isFile(above)) model.set(above, 'd755')
          }
        }
        for (const { path } of marks) imply(path as string)
        for (const [path, { type, mode }] of given) {
          imply(path)
          if (type === 'file') for (const key of [...model.keys()]) if (key.startsWith(`${path}/`)) model.delete(key)
          model.set(path, `${type === 'file' ? 'f' : 'd'}${mode!.toString(8)}`)
        }
        merger.apply(layerOf(...[...given.values(), ...marks].sort(() => random(3) - 1)))
      }
      expect(shown(merger.tree())).toEqual([...model].map(([path, rest]) => `${rest} ${path}`).sort())
    }
  })
})
