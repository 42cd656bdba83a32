import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { mount, umount } from '@strata/linux'
import { digestOf } from '@strata/oci'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { BlobStore } from '../blobs/blobs.js'
import { Collector } from '../blobs/collector.js'
import { Leases } from '../leases/leases.js'
import { mendTail } from '../mend-tail.js'
import { FolderStore } from './folder-store.js'

const MIB = 1024 * 1024

describe('FolderStore on a disk of 4 MiB', () => {
  let root: string
  let store: FolderStore
  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), 'strata-full-'))
    mount('tmpfs', root, 'tmpfs', 0, 'size=4m')
    store = await FolderStore.open(root, mendTail, { sync: () => Promise.resolve() })
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

  it('a collection makes room where there is none, not even for a shorter record', async () => {
    const [blobs, leases] = [new BlobStore(store), new Leases(store)]
    const [held, unused] = [randomBytes(1000), randomBytes(2 * MIB)]
    const live = await leases.create('live', { job: { kind: 'load', id: 'live' }, request: {} })
    await leases.create('ended', { job: { kind: 'load', id: 'ended' }, request: {} })
    for (const bytes of [held, unused]) await blobs.add(digestOf(bytes), bytes, 'ended')
    await blobs.hold(digestOf(held), 'live')
    await leases.end('ended')
    expect(() => writeFileSync(join(root, 'filler'), randomBytes(4 * MIB))).toThrow('ENOSPC')
    await expect(leases.touch(live)).rejects.toMatchObject({ code: 'storage_full' })
    // Room is made after the shorter record was refused, whichever comes first in the list.
    const refused = Promise.withResolvers<undefined>()
    const [replace, remove] = [store.replace.bind(store), store.removeUnchanged.bind(store)]
    vi.spyOn(store, 'replace').mockImplementation((...change) =>
      replace(...change).finally(() => refused.resolve(undefined)),
    )
    vi.spyOn(store, 'removeUnchanged').mockImplementation((key, etag) => refused.promise.then(() => remove(key, etag)))
    const { report } = await new Collector(store).collect({ references: async function* () {}, dryRun: false })
    expect(report.blobs).toEqual({ count: 1, bytes: unused.length })
    expect((await blobs.stat(digestOf(held)))?.holders).toEqual(['ended', 'live'])
    await leases.touch(live)
  })
})

/**
 * Each link, file and folder takes one of the file system's inodes: so many are left that the write
 * fails at its first step, its second, … until it succeeds.
 */
describe('FolderStore where no file can be made', () => {
  const INODES = 400
  let root: string
  let store: FolderStore
  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), 'strata-inodes-'))
    mount('tmpfs', root, 'tmpfs', 0, `size=16m,nr_inodes=${INODES}`)
    store = await FolderStore.open(join(root, 'store'), mendTail, { sync: () => Promise.resolve() })
  })
  afterEach(async () => {
    await store.close()
    umount(root)
    rmdirSync(root)
  })
  const allFiles = () =>
    readdirSync(root, { recursive: true })
      .map(String)
      .filter((path) => !path.startsWith('filler-') && !path.startsWith('store/locks/'))
      .sort()
  function fill(): string[] {
    const fillers: string[] = []
    for (;;) {
      const path = join(root, `filler-${fillers.length}`)
      try {
        writeFileSync(path, '')
      } catch (error) {
        expect(error).toMatchObject({ code: 'ENOSPC' })
        return fillers
      }
      fillers.push(path)
    }
  }

  it.each([
    ['put', (key: string) => store.put(key, randomBytes(1000))],
    ['a stream put', (key: string) => store.put(key, Readable.from([randomBytes(1000), randomBytes(1000)]))],
    ['create', (key: string) => store.create(key, randomBytes(1000))],
    ['createLocal', (key: string) => store.createLocal(key)],
    [
      'replace',
      async (key: string) =>
        store
          .replace('uploads/there', randomBytes(1000), (await store.stat('uploads/there'))!.etag)
          .then(() => store.create(key, randomBytes(10))),
    ],
  ])('%s says storage_full at every step, leaves nothing, and works when there is room', async (_, write) => {
    await store.create('uploads/there', randomBytes(1000))
    await store.stat('uploads/there')
    const fillers = fill()
    const before = allFiles()
    let refused = 0
    for (; ; refused++) {
      expect(refused).toBeLessThan(20)
      const outcome = await write('data/some/upload').then(
        () => undefined,
        (error: unknown) => error,
      )
      if (outcome === undefined) break
      expect(outcome).toMatchObject({ code: 'storage_full' })
      expect(allFiles()).toEqual(before)
      rmSync(fillers.pop()!)
    }
    expect(refused).toBeGreaterThan(0)
    expect((await store.list('data/')).objects.map(({ key }) => key)).toEqual(['data/some/upload'])
  })

  it('is opened on a full disk, in this boot and in another, so that room can be made', async () => {
    await store.put('data/some/upload', randomBytes(1000))
    const fillers = fill()
    for (const filler of fillers.splice(0, 3)) rmSync(filler)
    const again = await FolderStore.open(join(root, 'store'), mendTail, {
      sync: () => Promise.resolve(),
      boot: 'another',
    })
    await again.delete(['data/some/upload'])
    expect((await again.list('')).objects).toEqual([])
    await again.close()
  })
})
