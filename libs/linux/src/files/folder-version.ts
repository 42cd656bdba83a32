import { closeSync, constants, fsyncSync, openSync, renameSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { flock } from './lock.js'
import { openOwnFile, ownFolder, readOwnJson, UnusableFile } from './own-files.js'

const MAX_BYTES = 64
const ASK_EVERY_MS = 50
const REMEDY =
  ': if no release newer than this one has used the folder, remove the file, and the start looks at all data again'

/**
 * The version of the data in a folder: a `VersionedPlace` of `@strata/base`. The note is the file
 * `<folder>/version`, a number and a line feed; the lock is flock(2) on `<folder>/version.lock`.
 *
 * A note that cannot be read is not taken for none: data of a newer release would be read wrongly.
 */
export class FolderVersion {
  /** @param what for messages: `the node folder` */
  constructor(
    what: string,
    private readonly folder: string,
  ) {
    this.what = `${what} ${folder}`
  }
  readonly what: string

  /** @throws UnusableFile */
  read(): Promise<number | undefined> {
    const path = join(this.folder, 'version')
    // A promise also of what is thrown at once.
    return Promise.resolve().then(() => {
      try {
        const version = readOwnJson(path, MAX_BYTES)
        if (version === undefined || (Number.isSafeInteger(version) && Number(version) >= 1))
          return version as number | undefined
      } catch (error) {
        if (error instanceof UnusableFile) throw new UnusableFile(path, error.why, REMEDY)
        throw error
      }
      throw new UnusableFile(path, 'is not a version', REMEDY)
    })
  }

  /** Whole or not at all, also after a loss of power. */
  write(version: number): Promise<void> {
    return Promise.resolve().then(() => {
      ownFolder(this.folder)
      const path = join(this.folder, 'version')
      // Under the lock nobody else writes it.
      const draft = openOwnFile(`${path}.new`, constants.O_TRUNC, 0o644)
      try {
        writeSync(draft, `${version}\n`)
        fsyncSync(draft)
      } finally {
        closeSync(draft)
      }
      renameSync(`${path}.new`, path)
      const folder = openSync(this.folder, 'r')
      fsyncSync(folder)
      closeSync(folder)
    })
  }

  async exclusively(work: () => Promise<void>): Promise<void> {
    ownFolder(this.folder)
    const lock = openOwnFile(join(this.folder, 'version.lock'))
    try {
      while (!flock(lock, 'ex', { nonblock: true })) await delay(ASK_EVERY_MS)
      await work()
    } finally {
      closeSync(lock)
    }
  }
}
