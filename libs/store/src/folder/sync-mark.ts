import { randomUUID } from 'node:crypto'
import { readlinkSync } from 'node:fs'
import { open, rename, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { isErrno } from './object-file.js'

export interface SyncMark {
  /** The boot in which it was written. */
  readonly boot: string
  /**
   * When the last successful sync was started, in ms since 1970. A file whose ctime is earlier is
   * on disk.
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
 * **Clocks.** One clock, the kernel's, times files and marks. If it is set forward, or goes wrong
 * between two boots, the tail is only longer, and more files are examined than necessary. If it is
 * set back, a commit looks older than it is until the next sync, seconds later, writes a mark of
 * the new time. So steps of up to `MARGIN_MS` are allowed for. A larger step loses the check only
 * if the power fails in those same seconds. Each boot begins with a mark of its own.
 *
 * It is a symbolic link, and its target is the text. So one rename changes it, it is complete at
 * any time, and it is kept in the inode, so that it can be written on a full disk.
 */
export class SyncMarkFile {
  constructor(private readonly root: string) {}

  /** The mark; `undefined` if there is none. Then nothing is known to be on disk. */
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
   * Writes the mark without a sync. If an older mark comes back after a loss of power, more files
   * are examined, which does no harm. Only after the clock was set back would the older mark claim
   * more. So then the mark is on disk when the promise resolves.
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
