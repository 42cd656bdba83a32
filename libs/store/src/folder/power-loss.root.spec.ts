import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, mkdirSync, mkdtempSync, openSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BlobStore } from '../blobs/blobs.js'
import { putImage, type PutImage } from '../testing/put-image.js'
import { mendTail } from '../mend-tail.js'
import { FolderStore } from './folder-store.js'
import { SyncMarkFile } from './sync-mark.js'

const MIB = 1024 * 1024

/**
 * The real thing: a store on an ext4 of its own, on a loop device. What the device's file holds at
 * a moment is what a disk holds when the power goes: pages and inodes that the kernel has not
 * written are not in it. A copy of it is mounted, and opened as in a new boot.
 */
describe('a loss of power', () => {
  let folder: string
  let warnings: string[]
  let mounted: string[]
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'strata-power-'))
    warnings = []
    mounted = []
    execFileSync('truncate', ['-s', '64M', join(folder, 'disk')])
    execFileSync('mkfs.ext4', ['-q', '-m', '0', '-E', 'lazy_itable_init=0,lazy_journal_init=0', join(folder, 'disk')])
  })
  afterEach(() => {
    for (const path of mounted.reverse()) execFileSync('umount', ['-l', path])
    rmSync(folder, { recursive: true })
  })

  /** `commit`: the kernel writes nothing by itself while the test runs. */
  function mountDisk(disk: string, options = ''): string {
    const target = join(folder, `${disk}.mounted`)
    mkdirSync(target)
    execFileSync('mount', ['-o', `loop,commit=600${options}`, join(folder, disk), target])
    mounted.push(target)
    return target
  }
  const open = (disk: string, boot: string) =>
    FolderStore.open(join(disk, 'store'), mendTail, { boot, warn: (message) => warnings.push(message) })
  /** What the disk holds now, in a machine that is started again. */
  async function powerLoss(boot: string): Promise<FolderStore> {
    const disk = `after-${boot}`
    execFileSync('cp', ['--sparse=always', join(folder, 'disk'), join(folder, disk)])
    return open(mountDisk(disk), boot)
  }
  /**
   * A journal's commit, as any fsync on the disk brings it about: names and inodes of all that was
   * done, but not their pages.
   */
  function commitJournal(disk: string): void {
    const file = openSync(join(disk, 'other'), 'w')
    fsyncSync(file)
    closeSync(file)
  }
  /** Of uploads there may be lines too: whatever the journal had of them at that moment. */
  const imagesGone = () => warnings.filter((line) => line.startsWith('image'))
  const namesIn = async (store: FolderStore) => (await store.list('images/')).objects.map(({ key }) => key)
  async function expectWhole(store: FolderStore, { manifest, config, layers }: PutImage): Promise<void> {
    for (const digest of [manifest, config, ...layers]) await new BlobStore(store).read(digest, 100 * MIB)
  }

  it(
    'takes nothing that the background sync has covered, and leaves nothing that is damaged',
    { timeout: 60_000 },
    async () => {
      const disk = mountDisk('disk')
      const store = await open(disk, 'one')
      const mark = () => readlinkSync(join(disk, 'store', 'synced'))
      const opened = mark()
      const layer = randomBytes(2 * MIB)
      const synced = await putImage(store, 'docker.io/library/synced:1', [layer])
      await expect.poll(mark, { timeout: 30_000, interval: 50 }).not.toBe(opened)

      const later = await putImage(store, 'docker.io/library/later:1', [layer, randomBytes(2 * MIB)])

      const nothing = await powerLoss('two')
      expect(await namesIn(nothing)).toEqual([synced.name])
      await expectWhole(nothing, synced)
      await nothing.close()
      expect(imagesGone()).toEqual([])

      // Now its name is on the disk, and what it names is not.
      commitJournal(disk)
      const half = await powerLoss('three')
      expect(await namesIn(half)).toEqual([synced.name])
      await expectWhole(half, synced)
      expect(imagesGone()).toEqual([expect.stringMatching('^image later:1 is gone: ')])
      await half.close()

      warnings = []
      execFileSync('sync', ['-f', disk])
      const all = await powerLoss('four')
      expect(await namesIn(all)).toEqual([later.name, synced.name].sort())
      await expectWhole(all, later)
      expect(imagesGone()).toEqual([])
      await all.close()
      await store.close()
    },
  )
  it('leaves a record that was on disk as it was, or as it was replaced by', async () => {
    // The file system writes a name before the bytes behind it, as XFS does: ext4 does not by
    // itself.
    const disk = mountDisk('disk', ',noauto_da_alloc')
    const store = await open(disk, 'one')
    const old = Buffer.alloc(5_000, 'old')
    const next = Buffer.alloc(5_000, 'next')
    const etag = (await store.create('uploads/record', old))!
    execFileSync('sync', ['-f', disk])
    await new SyncMarkFile(join(disk, 'store')).write({ boot: 'one', syncedAt: Date.now() })
    await store.replace('uploads/record', next, etag)
    commitJournal(disk)
    const bytes = readAfter('uploads/record')
    expect(
      [old, next].some((one) => bytes.equals(one)),
      `${bytes.length} bytes`,
    ).toBe(true)
    await store.close()
  })

  /** The object's file as the disk holds it, whatever a store would make of it. */
  function readAfter(key: string): Buffer {
    execFileSync('cp', ['--sparse=always', join(folder, 'disk'), join(folder, 'after')])
    return readFileSync(join(mountDisk('after'), 'store', 'objects', key))
  }
})
