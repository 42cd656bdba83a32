import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { concat, file, pax, paxHeader, ZEROS } from '@strata/archive/testing'
import { FLAG, LayerIndex } from '@strata/layers'
import { makePrivateMount, MNT_DETACH, mountTable, umount } from '@strata/linux'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { Layout } from '../bookkeeping/layout.js'
import { parseSnapshotKey } from '../snapshot.js'
import type { LayerFiles, Snapshotter } from '../snapshotter.js'
import { storeLayer } from '../testing/index.js'
import { driverRow, VARIANTS } from './drivers.js'
import { openSnapshotter } from './open-snapshotter.js'

/** An ext4 as most nodes have it: a file's attributes have to fit into its inode and a block. */
let base: string
let disk: string
beforeEach(() => {
  base = makePrivateMount(mkdtempSync('/var/tmp/strata-unkept-'))
  disk = join(base, 'disk')
  mkdirSync(disk)
  execFileSync('truncate', ['-s', '64M', `${disk}.ext4`])
  execFileSync('mkfs.ext4', ['-q', '-O', '^has_journal,^ea_inode', `${disk}.ext4`])
  execFileSync('mount', ['-o', 'loop', `${disk}.ext4`, disk])
})
afterEach(() => {
  for (const { mountPoint } of mountTable()
    .filter((one) => one.mountPoint === base || one.mountPoint.startsWith(`${base}/`))
    .reverse())
    umount(mountPoint, MNT_DETACH)
  rmSync(base, { recursive: true })
})

const layer = (...parts: Uint8Array[]): LayerFiles => storeLayer(base, concat(...parts, ZEROS))
const note = (name: string, bytes: number): Buffer => paxHeader(pax(`SCHILY.xattr.${name}`, 'v'.repeat(bytes)))
/**
 * A layer whose index gives the attributes of its one file to the root, as older releases read a
 * `./` of a tar.
 */
function oldRoot(...parts: Uint8Array[]): LayerFiles {
  const files = layer(...parts)
  const index = LayerIndex.decode(readFileSync(files.index))
  const { entries, xattrs } = index.columns
  entries.flags[0]! |= FLAG.xattrs
  entries.flags[1]! &= ~FLAG.xattrs
  xattrs.owner[0] = 0
  writeFileSync(files.index, LayerIndex.decode(index.encode()).encode())
  return files
}

/** What a launch would be told. */
async function failureOf(snapshots: Snapshotter, stack: readonly LayerFiles[]): Promise<unknown> {
  const key = parseSnapshotKey('child')
  try {
    await snapshots.prepare(key, await snapshots.assemble(stack), { isVolatile: true })
    await snapshots.remove(key)
    return undefined
  } catch (error) {
    return error
  }
}

it.each(VARIANTS.map((variant) => [variant.title, variant] as const))(
  '%s: attributes of the root that the file system does not keep are unsupported, by name, and not a full disk',
  async (_, variant) => {
    const folder = join(disk, 'driver')
    const snapshots = await openSnapshotter(folder, variant)
    const layout = new Layout(folder, driverRow(variant.driver).folders)
    try {
      expect(await failureOf(snapshots, [oldRoot(note('user.large', 10_000), file('f', ''))])).toMatchObject({
        code: 'unsupported',
        message: expect.stringMatching(/"user\.large" \(10000 bytes\) of "\/" \(ENOSPC\): put/) as string,
      })
      const many = paxHeader(
        Array.from({ length: 250 }, (_, n) => pax(`SCHILY.xattr.user.${n}`, 'v'.repeat(20))).join(''),
      )
      expect(await failureOf(snapshots, [oldRoot(many, file('f', ''))])).toMatchObject({ code: 'unsupported' })
      expect(layout.contents().filter((path) => /driver\/(tmp|snapshots)\//.test(path))).toEqual([])
      expect(await failureOf(snapshots, [oldRoot(note('user.small', 100), file('f', ''))])).toBeUndefined()
    } finally {
      await snapshots.releaseRoots()
      await snapshots.close()
      expect(layout.contents().filter((path) => /driver\/(tmp|snapshots|mounts)\//.test(path))).toEqual([])
    }
  },
)

it.each(VARIANTS.filter(({ driver }) => driver !== 'erofs').map((variant) => [variant.title, variant] as const))(
  '%s: what the file system does not take of a file is unsupported, by the path',
  async (_, variant) => {
    const snapshots = await openSnapshotter(join(disk, 'driver'), variant)
    try {
      expect(await failureOf(snapshots, [layer(note('user.large', 10_000), file('a/b/c', 'x'))])).toMatchObject({
        code: 'unsupported',
        message: expect.stringContaining('of "/a/b/c" (ENOSPC)') as string,
      })
      const sparse = paxHeader(
        pax('GNU.sparse.major', '0') +
          pax('GNU.sparse.minor', '1') +
          pax('GNU.sparse.map', '0,1') +
          pax('GNU.sparse.size', String(17 * 2 ** 40)),
      )
      expect(await failureOf(snapshots, [layer(sparse, file('a/huge', 'x'))])).toMatchObject({
        code: 'unsupported',
        message: expect.stringContaining('takes no file of 18691697672192 bytes, which "/a/huge" has') as string,
      })
    } finally {
      await snapshots.releaseRoots()
      await snapshots.close()
    }
  },
)
