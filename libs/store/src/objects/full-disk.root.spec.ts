import {
  appendFileSync,
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { execFileSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MNT_DETACH, umount } from '@strata/linux'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { openStore } from './open-store.js'

/** A file system of its own, as a disk has it: its folders and names take blocks, too. */
let folder: string
let disk: string
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strata-full-'))
  disk = `${folder}.disk`
  closeSync(openSync(disk, 'w'))
  truncateSync(disk, 16 * 1024 * 1024)
  execFileSync('mkfs.ext4', ['-q', '-m', '0', '-O', '^has_journal', disk])
  execFileSync('mount', ['-o', 'loop', disk, folder])
  const store = await openStore({ STRATA_STORE: folder, STRATA_S3_REGION: 'x' })
  await store.create('images/a', Buffer.from('{}'))
  await store.put('data/u/1', Buffer.alloc(100_000))
  await store.close()
})
afterEach(() => {
  // The last sync of a closed store may still run, and has the folder open.
  umount(folder, MNT_DETACH)
  rmdirSync(folder)
  rmSync(disk)
})

it('a store of an older version opens on a disk without a free byte, says so, and gives room', async () => {
  writeFileSync(join(folder, 'version'), '4\n')
  const filler = join(folder, 'filler')
  writeFileSync(filler, '')
  for (const size of [1_048_576, 65_536, 4_096, 1_024])
    try {
      for (;;) appendFileSync(filler, Buffer.alloc(size))
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOSPC' })
    }
  const told: string[] = []
  const store = await openStore({ STRATA_STORE: folder, STRATA_S3_REGION: 'x' }, (message) => told.push(message))
  expect(told).toEqual([`the store ${folder} has no space to be brought to version 5: the next start does that`])
  expect((await store.read('images/a', 10))?.bytes.toString()).toBe('{}')
  await expect(store.put('data/u/2', Buffer.alloc(1_000))).rejects.toMatchObject({ code: 'storage_full' })
  await store.delete(['data/u/1'])
  await store.put('data/u/3', Buffer.alloc(1_000))
  expect((await store.list('data/')).objects.map(({ key }) => key)).toEqual(['data/u/3'])
  await store.close()
  expect(readdirSync(join(folder, 'tmp'))).toEqual([])
  expect(readFileSync(join(folder, 'version'), 'utf8')).toBe('4\n')
  rmSync(filler)
  await (await openStore({ STRATA_STORE: folder, STRATA_S3_REGION: 'x' })).close()
  expect(readFileSync(join(folder, 'version'), 'utf8')).toBe('5\n')
})
