import { closeSync, constants, fstatSync, lstatSync, openSync, statSync, type BigIntStats } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { SerialByKey } from '@strata/base'
import { FolderWatch, type FolderEvent } from '@strata/linux'
import { isErrno } from './object-file.js'
import { SortedNames } from './sorted-names.js'
import { namesIn } from './walk.js'

/** A folder with at most so many names is read for each page: that costs less than a watch. */
const FEW = 500
/** Names of a held folder that are given at once. */
const AT_ONCE = 200
/** About a million names that are digests. */
const MAX_BYTES = 128 * 1024 * 1024
/** Each takes a descriptor and a watch. */
const MAX_FOLDERS = 64
const IDLE_MS = 5 * 60_000
/** Folders of which is remembered that they are large. */
const MAX_REMEMBERED = 1_000
/** A change has a time before it has an event: one that is under way gets its event meanwhile. */
const LOOKS = 3

const O_FOLDER = constants.O_RDONLY | constants.O_DIRECTORY

interface ListingOptions {
  readonly warn: (message: string) => void
  readonly maxBytes?: number
  readonly idleMs?: number
}

/**
 * The sorted names in the folders of a store, so that a page of a list does not read a folder with
 * 100,000 names. A folder is named by the beginning of its keys (`images/a/_tags/`; the root is the
 * empty string). A name in it is a file's, or a folder's with a `/` at its end.
 *
 * **The folder is the only truth.** Nothing is written. From the second list of a large folder on,
 * this process holds its names in memory and watches it by inotify (FolderWatch). The kernel queues
 * an event for each change before the call that made it returns, whichever process made it: another
 * service, an older release, a person, a restore. Each list first applies the queued events, so it
 * has all changes that were finished before it. A process that changes a folder does nothing for
 * this.
 *
 * Held names are forgotten, and the next list reads the folder, if
 * - the kernel's queue of events was full (`lost`),
 * - the path leads to another folder (dev, ino): the folder was deleted, renamed, or mounted over;
 * - the folder's mtime changed and no event came: a file system that does not tell of all changes;
 * - nobody listed the folder for `IDLE_MS`, or others need the room (`MAX_BYTES`, `MAX_FOLDERS`).
 *
 * A folder that cannot be held, because it is too large or the machine allows no further watch, is
 * read for each page.
 *
 * Names may include one whose file has just been deleted; no name is missing whose file was there
 * before the call and stays.
 */
export class Listing {
  /** By folder. The last is the one that was listed last. */
  readonly #held = new Map<string, Held>()
  /** With those that are being read for the first time. */
  readonly #byWatch = new Map<number, Held>()
  readonly #large = new Set<string>()
  /** One process reads a large folder once at a time. */
  readonly #lines = new SerialByKey<string>()
  #watch: FolderWatch | undefined
  #isClosed = false
  #hasWarned = false

  constructor(
    private readonly objects: string,
    private readonly options: ListingOptions,
  ) {}

  /**
   * The names in a folder from `from` on, in the order of their bytes, in parts. Each part is a
   * state that the folder had after the call. None if there is no such folder.
   */
  async *names(folder: string, from: string): AsyncGenerator<readonly string[]> {
    for (let start = from; ;) {
      // Held names need no call that waits: pages in a row would stop the event loop.
      if (this.#held.has(folder)) await turn()
      const held = this.#upToDate(folder) ?? (await this.#read(folder))
      if (!(held instanceof Held)) {
        yield held.filter((name) => name >= start)
        return
      }
      const names = held.from(start, AT_ONCE)
      yield names
      if (names.length < AT_ONCE) return
      start = `${names.at(-1)!}\0`
    }
  }

  close(): void {
    this.#isClosed = true
    this.#forgetAll()
    this.#watch?.close()
    this.#watch = undefined
  }

  /** What is held of a folder, if it is right at this moment. */
  #upToDate(folder: string): Held | undefined {
    for (let look = 0; look < LOOKS; look++) {
      this.#applyEvents()
      const held = this.#held.get(folder)
      if (!held) return undefined
      const stat = statOf(this.#path(folder))
      if (!stat || !held.isOf(stat)) break
      if (!held.explains(stat.mtimeNs)) continue
      this.#held.delete(folder)
      this.#held.set(folder, held)
      this.#makeRoom()
      return held
    }
    this.#forget(this.#held.get(folder))
    return undefined
  }

  async #read(folder: string): Promise<Held | readonly string[]> {
    if (!this.#large.has(folder)) {
      const names = await namesIn(this.#path(folder))
      if (names.length > FEW) this.#remember(folder)
      return names
    }
    // Another list may have begun to read it before this one. What it holds has all events since.
    return this.#lines.run(folder, async () => this.#upToDate(folder) ?? (await this.#hold(folder)))
  }

  /** Reads a large folder and holds its names; only reads it if it cannot be held. */
  async #hold(folder: string): Promise<Held | readonly string[]> {
    // The watch is there before the folder is read, so no change falls between the two.
    const held = this.#watched(folder)
    if (!held) return namesIn(this.#path(folder))
    try {
      const names = await held.read()
      if (names.length <= FEW) this.#large.delete(folder)
      // It may be forgotten already: events were lost meanwhile.
      else if (held.bytes <= this.#maxBytes && this.#byWatch.get(held.watch) === held) this.#held.set(folder, held)
      return this.#upToDate(folder) ?? names
    } finally {
      if (this.#held.get(folder) !== held) this.#forget(held)
    }
  }

  /** `undefined` if the folder is not there or cannot be watched. */
  #watched(folder: string): Held | undefined {
    if (this.#isClosed) return undefined
    let fd: number
    try {
      fd = openSync(this.#path(folder), O_FOLDER)
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
      throw error
    }
    try {
      this.#watch ??= new FolderWatch()
      const held: Held = new Held(folder, fd, this.#addWatch(this.#watch, fd))
      held.onIdle(this.options.idleMs ?? IDLE_MS, () => this.#forget(held))
      this.#byWatch.set(held.watch, held)
      return held
    } catch (error) {
      closeSync(fd)
      this.#warn(error)
      return undefined
    }
  }

  #addWatch(watches: FolderWatch, fd: number): number {
    const watch = watches.add(linkOf(fd))
    const other = this.#byWatch.get(watch)
    if (!other) return watch
    // The same folder under another path: it was renamed, or a person made a link to it.
    this.#forget(other)
    return watches.add(linkOf(fd))
  }

  /** Applies all queued events, of whichever folder. */
  #applyEvents(): void {
    if (this.#byWatch.size === 0) return
    let events: FolderEvent[]
    try {
      events = this.#watch?.read() ?? []
    } catch (error) {
      this.#warn(error)
      events = [{ kind: 'lost' }]
    }
    const changed = new Set<Held>()
    for (const event of events) {
      if (event.kind === 'lost') return this.#forgetAll()
      const held = this.#byWatch.get(event.watch)
      if (!held) continue
      if (event.kind === 'ended') this.#forget(held)
      else {
        held.note(event)
        changed.add(held)
      }
    }
    for (const held of changed) if (this.#byWatch.get(held.watch) === held) held.settle()
  }

  /** Forgets those that nobody has listed for longest, until the others fit. */
  #makeRoom(): void {
    let bytes = 0
    for (const held of this.#held.values()) bytes += held.bytes
    for (const held of this.#held.values()) {
      if (bytes <= this.#maxBytes && this.#held.size <= MAX_FOLDERS) return
      bytes -= held.bytes
      this.#forget(held)
    }
  }

  #forget(held: Held | undefined): void {
    if (!held || this.#byWatch.get(held.watch) !== held) return
    this.#byWatch.delete(held.watch)
    if (this.#held.get(held.folder) === held) this.#held.delete(held.folder)
    this.#watch?.release(held.watch)
    held.end()
  }

  #forgetAll(): void {
    for (const held of [...this.#byWatch.values()]) this.#forget(held)
  }

  #remember(folder: string): void {
    if (this.#large.size >= MAX_REMEMBERED) this.#large.clear()
    this.#large.add(folder)
  }

  #warn(error: unknown): void {
    if (this.#hasWarned) return
    this.#hasWarned = true
    const message = error instanceof Error ? error.message : String(error)
    this.options.warn(
      `large folders of ${this.objects} cannot be watched (${message}): each page of a list reads them whole. ` +
        'If it says EMFILE or ENOSPC, raise fs.inotify.max_user_instances or fs.inotify.max_user_watches (sysctl)',
    )
  }

  #path(folder: string): string {
    return join(this.objects, folder)
  }

  get #maxBytes(): number {
    return this.options.maxBytes ?? MAX_BYTES
  }
}

/** The names of one folder. Its open descriptor says which folder that is, whatever its path. */
class Held {
  #names: SortedNames | undefined
  /** Events that came before the names were read. */
  readonly #early: NameEvent[] = []
  readonly #gone = new Set<string>()
  readonly #dev: bigint
  readonly #ino: bigint
  #mtimeNs: bigint
  #hasEvents = false
  #isReading = false
  #hasEnded = false
  #idle: NodeJS.Timeout | undefined

  /** The watch is there already, and ends with `end`, as does the descriptor. */
  constructor(
    readonly folder: string,
    private readonly fd: number,
    readonly watch: number,
  ) {
    const { dev, ino, mtimeNs } = fstatSync(fd, { bigint: true })
    this.#dev = dev
    this.#ino = ino
    this.#mtimeNs = mtimeNs
  }

  get bytes(): number {
    return this.#names?.bytes ?? 0
  }

  onIdle(afterMs: number, work: () => void): void {
    this.#idle = setTimeout(work, afterMs).unref()
  }

  /** Reads the folder. Its names, as they were read. */
  async read(): Promise<string[]> {
    this.#isReading = true
    try {
      const names = await namesIn(linkOf(this.fd))
      this.#names = new SortedNames(names)
      for (const event of this.#early.splice(0)) this.note(event)
      if (!this.#hasEnded) this.settle()
      return names
    } finally {
      this.#isReading = false
      if (this.#hasEnded) closeSync(this.fd)
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

  /** Whether events came since the last call, if the folder's time is another one. */
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
   * After all events that are queued were noted. A name goes only if it is not there, so no order
   * of events can take away one that was made again.
   */
  settle(): void {
    for (const name of this.#gone) if (!this.#has(name)) this.#names?.delete(name)
    this.#gone.clear()
  }

  end(): void {
    this.#hasEnded = true
    clearTimeout(this.#idle)
    // While it is read by its number, the number must not become another file's.
    if (!this.#isReading) closeSync(this.fd)
  }

  #has(name: string): boolean {
    const isFolder = name.endsWith('/')
    try {
      return lstatSync(join(linkOf(this.fd), name.replace(/\/$/, ''))).isDirectory() === isFolder
    } catch (error) {
      return !isErrno(error, 'ENOENT')
    }
  }
}

type NameEvent = Extract<FolderEvent, { readonly name: string }>

/** What cannot be looked at is not what was held. Whoever reads it then gets the error. */
function statOf(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true })
  } catch {
    return undefined
  }
}

function linkOf(fd: number): string {
  return `/proc/self/fd/${fd}`
}
