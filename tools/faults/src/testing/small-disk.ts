import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { MNT_DETACH, umount } from '@strata/linux'

/** A file system of its own, of a few megabytes, mounted from a file. */
export class SmallDisk {
  readonly path: string

  private constructor(private readonly folder: string) {
    this.path = join(folder, 'disk')
  }

  static make(megabytes: number): SmallDisk {
    const disk = new SmallDisk(mkdtempSync('/var/tmp/strata-disk-'))
    const { path } = disk
    const image = join(disk.folder, 'disk.ext4')
    mkdirSync(path)
    writeFileSync(image, '')
    truncateSync(image, megabytes * 2 ** 20)
    execFileSync('mkfs.ext4', ['-q', '-m', '0', image])
    execFileSync('mount', ['-o', 'loop', image, path])
    return disk
  }

  /** Fills it until only so much is free. */
  fill(free: number): void {
    this.empty()
    const { bavail, bsize } = statfsSync(this.path)
    // Where a file lies takes room as well.
    const size = Math.max(0, bavail * bsize - Math.max(free, 65_536))
    // Written, not only made longer: a sparse file takes nothing.
    if (size > 0) execFileSync('fallocate', ['-l', String(size), this.#filler])
  }

  empty(): void {
    rmSync(this.#filler, { force: true })
  }

  remove(): void {
    umount(this.path, MNT_DETACH)
    rmSync(this.folder, { recursive: true })
  }

  get #filler(): string {
    return join(this.path, 'filler')
  }
}
