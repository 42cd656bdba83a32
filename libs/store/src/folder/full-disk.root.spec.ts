import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mount, umount } from '@strata/linux'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FolderStore } from './folder-store.js'

const MIB = 1024 * 1024

describe('FolderStore on a disk of 4 MiB', () => {
  let root: string
  let store: FolderStore
  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), 'strata-full-'))
    mount('tmpfs', root, 'tmpfs', 0, 'size=4m')
    store = await FolderStore.open(root, { sync: () => Promise.resolve() })
  })
  afterEach(async () => {
    await store.close()
    umount(root)
    rmdirSync(root)
  })
  const leftovers = () => readdirSync(join(root, 'tmp')).flatMap((name) => readdirSync(join(root, 'tmp', name)))

  it('says storage_full, keeps nothing of what did not fit, and goes on when there is room', async () => {
    async function* endless() {
      for (;;) {
        yield randomBytes(MIB)
        await Promise.resolve()
      }
    }
    await store.put('data/u/1', randomBytes(MIB))
    await expect(store.put('data/u/2', endless())).rejects.toMatchObject({ code: 'storage_full' })
    expect(leftovers()).toEqual([])
    expect((await store.list('')).objects.map(({ key }) => key)).toEqual(['data/u/1'])

    await store.put('data/u/3', randomBytes(2.5 * MIB))
    const etag = (await store.create('uploads/a', randomBytes(100_000)))!
    await expect(store.create('uploads/b', randomBytes(MIB))).rejects.toMatchObject({ code: 'storage_full' })
    await expect(store.replace('uploads/a', randomBytes(MIB), etag)).rejects.toMatchObject({ code: 'storage_full' })
    expect((await store.stat('uploads/a'))?.etag).toBe(etag)
    expect(leftovers()).toEqual([])

    await store.delete(['data/u/3'])
    await store.put('data/u/4', randomBytes(2 * MIB))
  })
})
