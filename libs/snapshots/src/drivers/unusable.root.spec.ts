import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { concat, file, ZEROS } from '@strata/archive/testing'
import { makePrivateMount, MNT_DETACH, umount } from '@strata/linux'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Layout } from '../bookkeeping/layout.js'
import { parseSnapshotKey } from '../snapshot.js'
import { leftoversOf, readTree, storeLayer } from '../testing/index.js'
import { driverRow, VARIANTS } from './drivers.js'
import { openSnapshotter } from './open-snapshotter.js'

let base: string
beforeEach(() => {
  base = makePrivateMount(mkdtempSync('/var/tmp/strata-unusable-'))
  mkdirSync(join(base, 'layers'))
})
afterEach(() => {
  umount(base, MNT_DETACH)
  rmSync(base, { recursive: true })
})

const DAMAGE: readonly (readonly [string, (path: string) => void])[] = [
  ['no bytes', (path) => truncateSync(path, 0)],
  ['garbage', (path) => writeFileSync(path, '\0\xff{')],
  ['half of it', (path) => truncateSync(path, Math.floor(readFileSync(path).length / 2))],
  ['other JSON', (path) => writeFileSync(path, '[]')],
  ['a folder', (path) => (rmSync(path), mkdirSync(path))],
  ['a link to nowhere', (path) => (rmSync(path), symlinkSync('/nowhere', path))],
]
async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}
const key = parseSnapshotKey('a'.repeat(64))

describe.each(VARIANTS.map((variant) => [variant.title, variant] as const))('%s', (_, variant) => {
  const layoutOf = (folder: string): Layout => new Layout(folder, driverRow(variant.driver).folders)

  it.each(DAMAGE)(
    'a record with %s in its place: the folder opens, the root is made again, the snapshot can be removed',
    async (_damage, damage) => {
      const folder = join(base, 'driver')
      const stack = [
        storeLayer(join(base, 'layers'), concat(file('a', '1'), ZEROS)),
        storeLayer(join(base, 'layers'), concat(file('b', '2'), ZEROS)),
      ]
      const before = await openSnapshotter(folder, variant)
      const chainId = await before.assemble(stack)
      await before.prepare(key, chainId)
      await before.releaseRoots()
      await before.close()

      damage(layoutOf(folder).rootRecord(chainId))
      damage(layoutOf(folder).snapshotRecord(key))
      const next = await openSnapshotter(folder, variant)
      expect(await next.isAssembled(chainId)).toBe(false)
      expect(await all(next.walk())).toEqual([])
      expect((await all(next.roots())).map((root) => root.layers)).toEqual([[]])
      await next.assemble(stack)
      expect(readTree(await next.root(chainId))).toHaveLength(3)
      await next.remove(key)
      await next.prepare(key, chainId)
      await next.remove(key)
      await next.removeRoot(chainId)
      await next.close()
      expect(await leftoversOf(layoutOf(folder))).toEqual([])
    },
  )

  it('what does not belong there, in every folder, keeps it from nothing', async () => {
    const folder = join(base, 'driver')
    await (await openSnapshotter(folder, variant)).close()
    for (const name of readdirSync(folder)) {
      writeFileSync(join(folder, name, 'garbage'), 'x')
      mkdirSync(join(folder, name, 'a-folder', 'deep'), { recursive: true })
      symlinkSync('/nowhere', join(folder, name, 'a-link'))
      writeFileSync(join(folder, name, 'c'.repeat(64)), 'x')
      symlinkSync('/nowhere', join(folder, name, 'd'.repeat(64)))
      mkdirSync(join(folder, name, 'e'.repeat(64), 'in-use'), { recursive: true })
    }
    const next = await openSnapshotter(folder, variant)
    const stack = [storeLayer(join(base, 'layers'), concat(file('a', '1'), ZEROS))]
    const chainId = await next.assemble(stack)
    expect(readTree(await next.root(chainId))).toHaveLength(2)
    await all(next.roots())
    await all(next.walk())
    await next.removeRoot(chainId)
    await next.close()
    expect(lstatSync(join(folder, 'roots', 'garbage')).isFile()).toBe(true)
  })

  it('a folder of its own that is a file: one sentence says which', async () => {
    const folder = join(base, 'driver')
    mkdirSync(folder)
    writeFileSync(join(folder, 'roots'), '')
    await expect((async () => openSnapshotter(folder, variant))()).rejects.toThrow(
      `${join(folder, 'roots')} is not a folder, or lies below what is none: move that away`,
    )
  })
})
