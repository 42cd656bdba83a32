import { closeSync, constants, fstatSync, lstatSync, openSync } from 'node:fs'
import { join } from 'node:path'
import type { FolderEvent } from '@strata/linux'
import { isErrno } from './object-file.js'
import { SortedNames } from './sorted-names.js'
import { namesIn, namesNow } from './walk.js'

const O_FOLDER = constants.O_RDONLY | constants.O_DIRECTORY
/** Of a folder with few names, on any file system: it is read in the calling thread. */
const FEW_BYTES = 4096n

/**
 * The names of one folder, read while it is watched, and kept right by its events. Its open
 * descriptor says which folder that is, whatever its path.
 *
 * To read a folder is not enough. btrfs gives a name that is renamed over (`replace`) a new place
 * at the folder's end, and readdir(3) does not go there: it misses both the old and the new entry
 * of a file that was there all the time. The event of that change has the name.
 */
export class WatchedFolder {
  readonly watch: number
  readonly #fd: number
  readonly #dev: bigint
  readonly #ino: bigint
  readonly #isSmall: boolean
  #mtimeNs: bigint
  #names: SortedNames | undefined
  /** Events that came before the names were read. */
  readonly #early: NameEvent[] = []
  readonly #gone = new Set<string>()
  #hasEvents = false
  #isReading = false
  #hasEnded = false
  #idle: NodeJS.Timeout | undefined

  /** @throws what open(2) does: `ENOENT`, `ENOTDIR` */
  constructor(
    readonly folder: string,
    path: string,
    /** Adds a watch of the folder, before its names are read. */
    watch: (link: string) => number,
  ) {
    this.#fd = openSync(path, O_FOLDER)
    try {
      this.watch = watch(this.#link)
      const { dev, ino, mtimeNs, size } = fstatSync(this.#fd, { bigint: true })
      this.#dev = dev
      this.#ino = ino
      this.#mtimeNs = mtimeNs
      this.#isSmall = size <= FEW_BYTES
    } catch (error) {
      closeSync(this.#fd)
      throw error
    }
  }

  get bytes(): number {
    return this.#names?.bytes ?? 0
  }

  onIdle(afterMs: number, work: () => void): void {
    this.#idle = setTimeout(work, afterMs).unref()
  }

  /**
   * Reads the folder. It may be called once. The names are right after the events that were queued
   * meanwhile went through `note` and `settle`.
   */
  async read(): Promise<SortedNames> {
    this.#isReading = true
    try {
      this.#names = new SortedNames(this.#isSmall ? namesNow(this.#link) : await namesIn(this.#link))
      for (const event of this.#early.splice(0)) this.note(event)
      if (!this.#hasEnded) this.settle()
      return this.#names
    } finally {
      this.#isReading = false
      if (this.#hasEnded) closeSync(this.#fd)
    }
  }

  from(from: string, count: number): string[] {
    this.#idle?.refresh()
    return this.#names?.from(from, count) ?? []
  }

  /** The open descriptor keeps the inode's number from being used again. */
  isOf(stat: { readonly dev: bigint; readonly ino: bigint }): boolean {
    return stat.dev === this.#dev && stat.ino === this.#ino
  }

  /**
   * Whether the held names account for this mtime of the folder: it has not changed since the last
   * call, or events have come since then.
   */
  explains(mtimeNs: bigint): boolean {
    if (mtimeNs !== this.#mtimeNs && !this.#hasEvents) return false
    this.#mtimeNs = mtimeNs
    this.#hasEvents = false
    return true
  }

  note(event: NameEvent): void {
    this.#hasEvents = true
    if (!this.#names) {
      this.#early.push(event)
      return
    }
    const name = event.isFolder ? `${event.name}/` : event.name
    if (event.kind === 'added') this.#names.add(name)
    else this.#gone.add(name)
  }

  /**
   * To be called after `note` got all queued events. Removes a name only if it does not exist, so
   * no order of events can remove a name that was made again.
   */
  settle(): void {
    for (const name of this.#gone) if (!this.#has(name)) this.#names?.delete(name)
    this.#gone.clear()
  }

  end(): void {
    this.#hasEnded = true
    clearTimeout(this.#idle)
    // While it is read by its number, the number must not become another file's.
    if (!this.#isReading) closeSync(this.#fd)
  }

  get #link(): string {
    return `/proc/self/fd/${this.#fd}`
  }

  #has(name: string): boolean {
    const isFolder = name.endsWith('/')
    try {
      return lstatSync(join(this.#link, name.replace(/\/$/, ''))).isDirectory() === isFolder
    } catch (error) {
      return !isErrno(error, 'ENOENT')
    }
  }
}

type NameEvent = Extract<FolderEvent, { readonly name: string }>
