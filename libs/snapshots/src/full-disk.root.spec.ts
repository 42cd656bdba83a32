import { execFileSync } from 'node:child_process'
import { closeSync, fstatSync, fsyncSync, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { concat, file, ZEROS } from '@strata/archive/testing'
import { chainIds } from '@strata/oci'
import { makePrivateMount, mountTable, umount } from '@strata/linux'
import { expect, it } from 'vitest'
import { leftoversOf, readTree, storeLayer } from './testing/index.js'
import { nameOf, openSnapshotter, VARIANTS } from './variant.js'

const MIB = 1024 * 1024
const ROOM = 8 * MIB

it.each(VARIANTS.map((variant) => [nameOf(variant), variant] as const))('%s: a root that there is no room for is refused as storage_full, at every point, and leaves nothing; with room it is made', async (_, variant) => {
  const base = makePrivateMount(mkdtempSync('/var/tmp/strata-full-'))
  const disk = join(base, 'disk')
  mkdirSync(disk)
  execFileSync('truncate', ['-s', `${ROOM + 4 * MIB}`, `${disk}.ext4`])
  execFileSync('mkfs.ext4', ['-q', '-m', '0', '-O', '^has_journal', `${disk}.ext4`])
  execFileSync('mount', ['-o', 'loop', `${disk}.ext4`, disk])
  // Small files whose data is not aligned to blocks go to the side; large ones stay where they are.
  const stack = Array.from({ length: 3 }, (_layer, n) => storeLayer(base, concat(...Array.from({ length: 400 }, (_file, m) => file(`${n}/${m}-${'x'.repeat(100)}`, 'y'.repeat(700))), ZEROS)))
  const folder = join(disk, 'driver')
  const snapshots = await openSnapshotter(folder, variant)
  try {
    const filler = join(disk, 'filler')
    let refused = 0
    let early = 0
    for (let room = 0; ; room += 512 * 1024) {
      expect(room).toBeLessThan(ROOM)
      fill(filler)
      truncateSync(filler, Math.max(0, statSync(filler).size - room))
      const failure: unknown = await snapshots.assemble(stack).then(() => undefined, (error: unknown) => error)
      if (failure === undefined && refused === 0 && early++ < 20) {
        // The disk was not yet full: the kernel gives back late what the probe's loop devices were on.
        await snapshots.removeRoot(chainIds(stack.map(({ diffId }) => diffId)).at(-1)!)
        rmSync(filler)
        room = -512 * 1024
        continue
      }
      if (failure === undefined) break
      refused++
      expect(failure).toMatchObject({ code: 'storage_full' })
      for (const name of ['roots', 'layers', 'tmp']) expect(readdirSync(join(folder, name)), name).toEqual([])
      rmSync(filler)
    }
    expect(refused).toBeGreaterThan(0)
    const chainId = await snapshots.assemble(stack)
    expect(readTree(await snapshots.root(chainId))).toHaveLength(1 + 3 * 401)
    await snapshots.removeRoot(chainId)
    await snapshots.close()
    expect(leftoversOf(folder)).toEqual([])
  } finally {
    for (const { mountPoint } of mountTable().filter(({ mountPoint }) => mountPoint.startsWith(`${disk}/`))) umount(mountPoint)
    for (const path of [disk, base]) umount(path)
    rmSync(base, { recursive: true })
  }
})

/** Writes until nothing more goes in: what the file system had set aside for the writes themselves is free again once they are on the disk. */
function fill(path: string): void {
  const file = openSync(path, 'a')
  for (let before = -1; before < fstatSync(file).size; ) {
    before = fstatSync(file).size
    expect(() => writeFileSync(file, Buffer.alloc(2 * ROOM))).toThrow('ENOSPC')
    fsyncSync(file)
  }
  closeSync(file)
}
