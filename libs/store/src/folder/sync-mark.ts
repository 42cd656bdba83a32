import { randomUUID } from 'node:crypto'
import { readlinkSync } from 'node:fs'
import { open, rename, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { isErrno } from './object-file.js'

export interface SyncMark {
  /** The boot in which it was written. */
  readonly boot: string
  /**
   * When the last sync that finished was started, in ms since 1970: what a file's ctime puts before
   * that is on disk.
   */
  readonly syncedAt: number
}

/**
 * `<root>/synced`: how far a folder store is safe from a loss of power.
 *
 * **Why by ctime.** A list of what is not on disk yet would have to be on disk itself before each
 * commit. The inode's change time is kept by the kernel, nobody can set it, and link, rename and
 * chmod, by which objects are committed, renew it in the same transaction of the file system that
 * makes the commit visible.
 *
 * **Clocks.** Files and marks are timed by one clock, the kernel's. One that is set forward, or
 * goes wrong between two boots, only makes the tail longer: it is looked at in vain. One that is
 * set back makes a commit look older than it is until the next sync, seconds later, writes a mark
 * of the new time; so steps up to `MARGIN_MS` are allowed for, and a larger one loses its check
 * only if the power goes in those same seconds. Each boot begins with a mark of its own.
 *
 * It is a symbolic link whose target is the text: changed by one rename, whole at any time, and
 * kept in the inode, so that a full disk takes it too.
 */
export class SyncMarkFile {
  constructor(private readonly root: string) {}

  /** `undefined` if there is none: then nothing is known to be on disk. */
  read(): SyncMark | undefined {
    try {
      const [, boot, time] = /^([^ ]+) (\d{1,15})$/.exec(readlinkSync(join(this.root, 'synced'))) ?? []
      return boot === undefined ? undefined : { boot, syncedAt: Number(time) }
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'EINVAL')) return undefined
      throw error
    }
  }

  /**
   * Not made durable: an older mark that comes back after a loss of power says less, which does no
   * harm. Only where the clock was set back would it say more: then the mark is on disk when the
   * promise resolves.
   */
  async write({ boot, syncedAt }: SyncMark): Promise<void> {
    const last = this.read()
    const draft = join(this.root, `synced.${randomUUID()}`)
    try {
      await symlink(`${boot} ${syncedAt}`, draft)
      await rename(draft, join(this.root, 'synced'))
    } finally {
      await rm(draft, { force: true })
    }
    if (!last || syncedAt >= last.syncedAt) return
    const folder = await open(this.root, 'r')
    try {
      await folder.sync()
    } finally {
      await folder.close()
    }
  }
}

/** How far the clock may be set back between two syncs. */
export const MARGIN_MS = 10_000
