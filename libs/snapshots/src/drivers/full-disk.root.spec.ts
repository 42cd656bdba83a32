import { execFileSync } from 'node:child_process'
import {
  closeSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { concat, file, ZEROS } from '@strata/archive/testing'
import { makePrivateMount, MNT_DETACH, mountTable, umount } from '@strata/linux'
import { expect, it } from 'vitest'
import { Layout } from '../bookkeeping/layout.js'
import { leftoversOf, readTree, storeLayer } from '../testing/index.js'
import { driverRow, VARIANTS } from './drivers.js'
import { openSnapshotter } from './open-snapshotter.js'

const MIB = 1024 * 1024
const ROOM = 8 * MIB

it.each(VARIANTS.map((variant) => [variant.title, variant] as const))(
  '%s: a root that there is no room for is refused as storage_full, at every point, and leaves nothing; with room it is made',
  async (_, variant) => {
    const base = makePrivateMount(mkdtempSync('/var/tmp/strata-full-'))
    const disk = join(base, 'disk')
    mkdirSync(disk)
    execFileSync('truncate', ['-s', `${ROOM + 4 * MIB}`, `${disk}.ext4`])
    execFileSync('mkfs.ext4', ['-q', '-m', '0', '-O', '^has_journal', `${disk}.ext4`])
    execFileSync('mount', ['-o', 'loop', `${disk}.ext4`, disk])
    const tables = nameless(disk)
    // Small files whose data is not aligned to blocks go to the side; large ones stay where they
    // are.
    const stack = Array.from({ length: 3 }, (_layer, n) =>
      storeLayer(
        base,
        concat(
          ...Array.from({ length: 400 }, (_file, m) => file(`${n}/${m}-${'x'.repeat(100)}`, 'y'.repeat(700))),
          ZEROS,
        ),
      ),
    )
    const folder = join(disk, 'driver')
    const layout = new Layout(folder, driverRow(variant.driver).folders)
    let left: string[]
    const snapshots = await openSnapshotter(folder, variant)
    try {
      const filler = join(disk, 'filler')
      let refused = 0
      for (let room = 0; ; room += 512 * 1024) {
        expect(room).toBeLessThan(ROOM)
        await expect.poll(() => nameless(disk)).toBe(tables)
        fill(filler)
        truncateSync(filler, Math.max(0, statSync(filler).size - room))
        const failure: unknown = await snapshots.assemble(stack).then(
          () => undefined,
          (error: unknown) => error,
        )
        if (failure === undefined) break
        refused++
        expect(failure).toMatchObject({ code: 'storage_full' })
        expect(layout.contents()).toEqual([])
        rmSync(filler)
      }
      expect(refused).toBeGreaterThan(0)
      const chainId = await snapshots.assemble(stack)
      expect(readTree(await snapshots.root(chainId))).toHaveLength(1 + 3 * 401)
      await snapshots.removeRoot(chainId)
    } finally {
      await snapshots.close()
      left = await leftoversOf(layout)
      for (const { mountPoint } of mountTable().filter(({ mountPoint }) => mountPoint.startsWith(`${disk}/`)))
        umount(mountPoint)
      umount(disk, MNT_DETACH)
      umount(base, MNT_DETACH)
      rmSync(base, { recursive: true })
    }
    expect(left).toEqual([])
  },
)

/**
 * Bytes on the disk that no name leads to: its own tables, and deleted files which a loop device
 * still holds. The kernel detaches those some time after their last mount has gone.
 */
function nameless(disk: string): number {
  const { blocks, bfree, bsize } = statfsSync(disk)
  const { dev } = statSync(disk)
  const named = readdirSync(disk, { recursive: true, encoding: 'utf8' }).map((name) => lstatSync(join(disk, name)))
  return (
    (blocks - bfree) * bsize -
    named.filter((stat) => stat.dev === dev).reduce((sum, stat) => sum + stat.blocks * 512, 0)
  )
}

/**
 * Writes until nothing more goes in: what the file system had set aside for the writes themselves
 * is free again once they are on the disk, and a large write may be refused whole where a small one
 * still finds room.
 */
function fill(path: string): void {
  const file = openSync(path, 'a')
  for (const size of [2 * ROOM, 64 * 1024, 1024]) {
    for (let before = -1; before < fstatSync(file).size;) {
      before = fstatSync(file).size
      expect(() => {
        for (;;) writeFileSync(file, Buffer.alloc(size))
      }).toThrow('ENOSPC')
      fsyncSync(file)
    }
  }
  closeSync(file)
}
