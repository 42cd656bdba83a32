import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { umount } from '@strata/linux'

/** A file system of its own, of a few megabytes, mounted from a file. */
export class SmallDisk {
  private constructor(
    readonly path: string,
    private readonly image: string,
  ) {}

  static make(folder: string, name: string, megabytes: number): SmallDisk {
    const [path, image] = [join(folder, name), join(folder, `${name}.ext4`)]
    mkdirSync(path)
    writeFileSync(image, '')
    truncateSync(image, megabytes * 2 ** 20)
    execFileSync('mkfs.ext4', ['-q', '-m', '0', image])
    execFileSync('mount', ['-o', 'loop', image, path])
    return new SmallDisk(path, image)
  }

  /** Fills it until only so much is free. */
  fill(free: number): void {
    this.empty()
    const { bavail, bsize } = statfsSync(this.path)
    const size = Math.max(0, bavail * bsize - free)
    // Written, not only made longer: a sparse file takes nothing.
    if (size > 0) execFileSync('fallocate', ['-l', String(size), this.#filler])
  }

  empty(): void {
    rmSync(this.#filler, { force: true })
  }

  remove(): void {
    umount(this.path)
    rmSync(this.image)
  }

  get #filler(): string {
    return join(this.path, 'filler')
  }
}
