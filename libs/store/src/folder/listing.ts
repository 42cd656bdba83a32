import { statSync, type BigIntStats } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises'
import { FolderWatch, SystemError, type FolderEvent } from '@strata/linux'
import { isErrno } from './object-file.js'
import { SortedNames } from './sorted-names.js'
import { namesIn, namesNow } from './walk.js'
import { WatchedFolder } from './watched-folder.js'

/** A folder with at most so many names is read for each page: that costs less than to hold it. */
const FEW = 500
/**
 * A folder of at most so many bytes, as stat(2) gives them, has some hundred names that are
 * digests, and on tmpfs, which counts 20 bytes for each, fewer than `FEW`. To read it takes less
 * time than a trip to the thread pool.
 */
const READ_NOW_BYTES = 8 * 1024
/** After so many such readings the event loop gets a turn. */
const READINGS_A_TURN = 16
/** Names of a held folder that are given at once. */
const AT_ONCE = 200
/** About a million names that are digests. */
const MAX_BYTES = 128 * 1024 * 1024
/** Each takes a descriptor and a watch. */
const MAX_FOLDERS = 64
const IDLE_MS = 5 * 60_000
/**
 * A change sets the folder's mtime before its event is queued. If the mtime is new and there is no
 * event yet, the event may follow. So the folder is looked at again, after each of these waits.
 */
const LOOKS_AFTER_MS = [0, 1, 2, 4, 8, 16]
/**
 * How often a folder is read at most, if events are lost, or if it changes while it is not watched.
 */
const READINGS = 3
/** Two changes in one tick of the clock have one time. No kernel's tick is longer. */
const TICK_MS = 20

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
 * Names may include one whose file has just been deleted; no name is missing whose file was there
 * before the call and stays, also if it is replaced meanwhile.
 *
 * **The folder is the only truth.** Nothing is written. A folder is read while it is watched by
 * inotify (FolderWatch), and the events of that time are applied to what was read: readdir(3) alone
 * can miss a name (WatchedFolder). A small folder that did not change for some time is read without
 * a watch, if its ctime shows that it did not change meanwhile either. The kernel queues an event
 * for each change before the call that made it returns, whichever process made it: another service,
 * an older release, a person, a restore. A process that changes a folder does nothing for this.
 * Lists that come while a folder is read share what is read.
 *
 * The names of a large folder are then held in memory, and the folder stays watched. Each list
 * first applies the queued events, so it has all changes that were finished before it. Held names
 * are forgotten, and the next list reads the folder, if
 * - the kernel's queue of events was full (`lost`),
 * - the path leads to another folder (dev, ino): the folder was deleted, renamed, or mounted over;
 * - the folder's mtime changed and no event came: a file system that does not tell of all changes;
 * - nobody listed the folder for `IDLE_MS`, or others need the room (`MAX_BYTES`, `MAX_FOLDERS`).
 *
 * A folder that is too large to be held is read for each page. So is one that cannot be watched,
 * because the machine allows no further watch; see `#readUnwatched` for what that gives.
 */
export class Listing {
  /** By folder. The last is the one that was listed last. */
  readonly #held = new Map<string, WatchedFolder>()
  /** By the number of the watch, also those that are being read. */
  readonly #byWatch = new Map<number, WatchedFolder>()
  /** By folder, what is being read under a watch. */
  readonly #readings = new Map<string, Promise<SortedNames | undefined>>()
  #watch: FolderWatch | undefined
  /** Readings that were begun, ever. */
  #readingsBegun = 0
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
      const held = await this.#upToDate(folder)
      if (!held) {
        yield (await this.#read(folder)).from(start, Infinity)
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
  async #upToDate(folder: string): Promise<WatchedFolder | undefined> {
    for (const waitMs of LOOKS_AFTER_MS) {
      if (!this.#held.has(folder)) return undefined
      // Also between two pages in a row, which would stop the event loop else.
      await (waitMs === 0 ? turn() : delay(waitMs))
      this.#applyEvents()
      const held = this.#held.get(folder)
      if (!held) return undefined
      const stat = statOf(this.#path(folder))
      if (!stat || !held.isOf(stat)) break
      if (!held.explains(stat.mtimeNs)) continue
      this.#hold(held)
      return held
    }
    this.#forget(this.#held.get(folder))
    return undefined
  }

  async #read(folder: string): Promise<SortedNames> {
    if (++this.#readingsBegun % READINGS_A_TURN === 0) await turn()
    const settled = this.#readSettled(folder)
    if (settled) return settled
    for (let reading = 0; reading < READINGS; reading++) {
      const names = this.#readings.get(folder) ?? this.#readWatched(folder)
      if (!names) break
      const right = await names
      if (right) return right
    }
    return this.#readUnwatched(folder)
  }

  /**
   * Reads a small folder that did not change lately, at once and without a watch: a page of images,
   * and a walk over all marks, read very many of these. If its ctime is the same afterwards,
   * nothing changed meanwhile. A change would have set another one, and no program can set it back.
   * `undefined`: it is not such a folder.
   */
  #readSettled(folder: string): SortedNames | undefined {
    const path = this.#path(folder)
    const [before, now] = [statOf(path), Date.now()]
    if (!before || before.size > READ_NOW_BYTES || !isSettled(before.ctimeNs, now)) return undefined
    const names = namesNow(path)
    const after = statOf(path)
    const isSame = after?.ctimeNs === before.ctimeNs && after.ino === before.ino && after.dev === before.dev
    return isSame && names.length <= FEW ? new SortedNames(names) : undefined
  }

  /**
   * Reads a folder under a watch; the names are `undefined` if the watch ended or lost events
   * meanwhile. No promise if the folder is not there or cannot be watched.
   */
  #readWatched(folder: string): Promise<SortedNames | undefined> | undefined {
    // What was lost before does not concern the new watch.
    this.#applyEvents()
    const watched = this.#watched(folder)
    if (!watched) return undefined
    const reading = this.#finishReading(watched)
    this.#readings.set(folder, reading)
    return reading
  }

  async #finishReading(watched: WatchedFolder): Promise<SortedNames | undefined> {
    try {
      const names = await watched.read().finally(() => this.#readings.delete(watched.folder))
      // Nobody joins this reading any more, so it has all changes that were finished before any of
      // the calls that share it.
      this.#applyEvents()
      if (!this.#isWatched(watched)) return undefined
      if (names.size > FEW && names.bytes <= this.#maxBytes) {
        watched.onIdle(this.options.idleMs ?? IDLE_MS, () => this.#forget(watched))
        this.#hold(watched)
      }
      return names
    } finally {
      if (this.#held.get(watched.folder) !== watched) this.#forget(watched)
    }
  }

  /**
   * Reads a folder that is not watched, until its mtime shows that no name changed during a
   * reading, but at most `READINGS` times. Gives the names of all these readings. One reading may
   * miss a name that is replaced meanwhile (btrfs). Only a name that is replaced during each
   * reading is missing in all.
   */
  async #readUnwatched(folder: string): Promise<SortedNames> {
    const path = this.#path(folder)
    const names = new Set<string>()
    for (let reading = 0; reading < READINGS; reading++) {
      const [before, now] = [statOf(path), Date.now()]
      for (const name of before ? await namesIn(path) : namesNow(path)) names.add(name)
      if ((!before || isSettled(before.mtimeNs, now)) && statOf(path)?.mtimeNs === before?.mtimeNs) break
    }
    return new SortedNames([...names].sort())
  }

  /** `undefined` if the folder is not there or cannot be watched. */
  #watched(folder: string): WatchedFolder | undefined {
    if (this.#isClosed) return undefined
    try {
      const watches = (this.#watch ??= new FolderWatch())
      const watched = new WatchedFolder(folder, this.#path(folder), (link) => this.#addWatch(watches, link))
      this.#byWatch.set(watched.watch, watched)
      return watched
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
      if (!(error instanceof SystemError)) throw error
      this.#warn(error)
      return undefined
    }
  }

  #addWatch(watches: FolderWatch, link: string): number {
    const watch = watches.add(link)
    const other = this.#byWatch.get(watch)
    if (!other) return watch
    // The same folder under another path: it was renamed, or a person made a link to it.
    this.#forget(other)
    return watches.add(link)
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
    const changed = new Set<WatchedFolder>()
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
    for (const held of changed) if (this.#isWatched(held)) held.settle()
  }

  /** Holds it as the one that was listed last, and forgets others until all have room. */
  #hold(watched: WatchedFolder): void {
    this.#held.delete(watched.folder)
    this.#held.set(watched.folder, watched)
    let bytes = 0
    for (const held of this.#held.values()) bytes += held.bytes
    for (const held of this.#held.values()) {
      if (bytes <= this.#maxBytes && this.#held.size <= MAX_FOLDERS) return
      bytes -= held.bytes
      this.#forget(held)
    }
  }

  #isWatched(watched: WatchedFolder): boolean {
    return this.#byWatch.get(watched.watch) === watched
  }

  #forget(watched: WatchedFolder | undefined): void {
    if (!watched || !this.#isWatched(watched)) return
    this.#byWatch.delete(watched.watch)
    if (this.#held.get(watched.folder) === watched) this.#held.delete(watched.folder)
    this.#watch?.release(watched.watch)
    watched.end()
  }

  #forgetAll(): void {
    for (const held of [...this.#byWatch.values()]) this.#forget(held)
  }

  #warn(error: unknown): void {
    if (this.#hasWarned) return
    this.#hasWarned = true
    const message = error instanceof Error ? error.message : String(error)
    this.options.warn(
      `folders of ${this.objects} cannot be watched (${message}): each page of a list reads them whole, ` +
        'and on btrfs it may miss a record that is replaced meanwhile. ' +
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

/** Whether a change from `now` on, in milliseconds, gives a folder with this time another one. */
function isSettled(timeNs: bigint, now: number): boolean {
  return timeNs / 1_000_000n < BigInt(now - TICK_MS)
}

/**
 * `undefined` if the folder cannot be examined: then what is held is forgotten, and the next
 * reading throws the error.
 */
function statOf(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true })
  } catch {
    return undefined
  }
}
