import { lstatSync } from 'node:fs'
import { lstat, mkdir, opendir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { asStrataError } from '@strata/base'
import { ownFolder, readOwnJson, UnusableFile } from '@strata/linux'
import type { ContainerRecord } from '../container.js'
import { replaceFile, syncFolder } from './atomic.js'
import { isContainerRecord } from './record-shape.js'

const RECORD = 'container.json'
/** A request has 4 MiB at most, an image's config too; both grow by what JSON escapes. */
const MAX_RECORD_BYTES = 64 * 2 ** 20
const ID = /^[0-9a-f]{64}$/
const DATE = /^\d{4}-\d\d-\d\d$/
const DAY_MS = 24 * 3600 * 1000
/**
 * Whole days for which a removed id is remembered. The jobs of a request, and where Redis says it
 * was placed, are kept for one.
 */
const REMEMBERED_DAYS = 3
/** How many containers with an unreadable record are kept aside. */
const MOST_UNREADABLE = 16

/** A container whose record cannot be read. */
export interface UnreadableContainer {
  readonly id: string
  /** Its record's path, and what is wrong with it. */
  readonly why: string
}

/**
 * Containers on the node's disk.
 *
 *     <folder>/<id>/container.json    the record; the log and the files of /etc beside it
 *     <folder>/served-as              who serves them (served-as.ts)
 *     <folder>/removed/<date>/<id>    an empty file: it was removed on that day (UTC)
 *     <folder>/unreadable/<id>/       what was the container's folder, where the record was unreadable: the newest 16
 *
 * A record is written by rename, so the death of a process leaves the old or the new one. So does a
 * loss of power where `durable` is said. `now` is the clock.
 */
export class RecordStore {
  readonly #removed: string
  readonly #unreadable: string
  /** The dates in `removed`. */
  #dates: string[] = []

  constructor(
    readonly folder: string,
    private readonly now: () => number = Date.now,
  ) {
    this.#removed = join(folder, 'removed')
    this.#unreadable = join(folder, 'unreadable')
  }

  folderOf(id: string): string {
    return join(this.folder, id)
  }

  logOf(id: string): string {
    return join(this.folderOf(id), 'log')
  }

  /**
   * The records; the ids of folders that are to go, since a removal or a claim was interrupted; and
   * the containers that cannot be read, which stay as they are until `putAside`.
   */
  async open(): Promise<{ records: ContainerRecord[]; leftovers: string[]; unreadable: UnreadableContainer[] }> {
    ownFolder(this.folder)
    ownFolder(this.#removed)
    await this.#sortUndated()
    await this.#forget()
    const records: ContainerRecord[] = []
    const leftovers: string[] = []
    const unreadable: UnreadableContainer[] = []
    for (const id of (await readdir(this.folder)).filter((name) => ID.test(name))) {
      if (this.isRemoved(id)) {
        leftovers.push(id)
        continue
      }
      try {
        const record = await this.#read(id)
        if (record) records.push(record)
        else leftovers.push(id)
      } catch (error) {
        if (!(error instanceof UnusableFile)) throw error
        unreadable.push({ id, why: error.message })
      }
    }
    return { records, leftovers, unreadable }
  }

  isRemoved(id: string): boolean {
    const places = [this.#unreadable, ...this.#dates.map((date) => join(this.#removed, date))]
    return places.some((place) => lstatSync(join(place, id), { throwIfNoEntry: false }) !== undefined)
  }

  async save(record: ContainerRecord, options: { durable: boolean }): Promise<void> {
    const folder = this.folderOf(record.id)
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await replaceFile(join(folder, RECORD), JSON.stringify(record), options)
    if (options.durable) await syncFolder(this.folder)
  }

  /**
   * From here on the container is gone, whatever is left of it; a loss of power does not bring it
   * back. Of ids that were removed long ago the first removal of a day lets go, so that their
   * number is that of a few days, not of all time. On a full disk its log goes first, and makes
   * the room for that.
   */
  async bury(id: string): Promise<void> {
    const isFirst = await this.#addTombstone(id).catch(async (error: unknown) => {
      if (asStrataError(error).code !== 'storage_full') throw error
      await rm(this.logOf(id), { recursive: true, force: true })
      return this.#addTombstone(id)
    })
    if (isFirst) await this.#forget()
  }

  /** Whether it is the first of its day. */
  async #addTombstone(id: string): Promise<boolean> {
    const date = this.#dateOf(this.now())
    const folder = join(this.#removed, date)
    const isNew = !this.#dates.includes(date)
    if (isNew) {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      await syncFolder(this.#removed)
      this.#dates.push(date)
    }
    await writeFile(join(folder, id), '', { mode: 0o600 })
    await syncFolder(folder)
    return isNew
  }

  /**
   * Makes the folder of a container that has no record, if nothing has its name. `open` counts it
   * among the leftovers until `drop` takes it away.
   */
  async markLeftover(id: string): Promise<void> {
    // Not `recursive`: that fails where a link that leads nowhere has the name.
    await mkdir(this.folderOf(id), { mode: 0o700 }).catch((error: unknown) => {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
    })
  }

  /** Record, logs and all else of the container's folder. */
  async drop(id: string): Promise<void> {
    await rm(this.folderOf(id), { recursive: true, force: true })
  }

  /**
   * Moves the folder of a container that cannot be read out of the way, and answers where to. Its
   * id counts as removed: it is never started again.
   */
  async putAside(id: string): Promise<string> {
    const aside = join(this.#unreadable, id)
    ownFolder(this.#unreadable)
    await rename(this.folderOf(id), aside)
    return aside
  }

  /**
   * Of what was put aside, the ids beyond the newest 16. `dropAside` is the last to be done to
   * each.
   */
  async asideBeyond(): Promise<string[]> {
    const ids = (await readdir(this.#unreadable)).filter((name) => ID.test(name))
    const times = new Map(
      await Promise.all(ids.map(async (id) => [id, (await lstat(join(this.#unreadable, id))).ctimeMs] as const)),
    )
    return ids.sort((one, other) => times.get(other)! - times.get(one)!).slice(MOST_UNREADABLE)
  }

  async dropAside(id: string): Promise<void> {
    await this.bury(id)
    await rm(join(this.#unreadable, id), { recursive: true, force: true })
  }

  async #read(id: string): Promise<ContainerRecord | undefined> {
    const path = join(this.folderOf(id), RECORD)
    const record = readOwnJson(path, MAX_RECORD_BYTES)
    if (record === undefined) {
      // Claim died before the rename, so nobody was told of it; unless it has written: then it had
      // a record.
      if (await this.#hasRun(id)) throw new UnusableFile(path, 'is not there, though the container has run')
      return undefined
    }
    if (!isContainerRecord(record, id)) throw new UnusableFile(path, 'is not the record of this container')
    return record
  }

  async #hasRun(id: string): Promise<boolean> {
    return (await readdir(this.logOf(id)).catch(() => [])).length > 0
  }

  /** Tombstones of an older version lie side by side, with their time as the date. */
  async #sortUndated(): Promise<void> {
    for (const name of await readdir(this.#removed)) {
      const path = join(this.#removed, name)
      const entry = lstatSync(path, { throwIfNoEntry: false })
      if (!entry || (DATE.test(name) && entry.isDirectory())) continue
      if (!ID.test(name)) {
        await rm(path, { recursive: true, force: true })
        continue
      }
      const folder = join(this.#removed, this.#dateOf(entry.mtimeMs))
      await mkdir(folder, { recursive: true, mode: 0o700 })
      await rm(join(folder, name), { recursive: true, force: true })
      await rename(path, join(folder, name))
    }
  }

  async #forget(): Promise<void> {
    const oldest = this.#dateOf(this.now() - REMEMBERED_DAYS * DAY_MS)
    const dates = (await readdir(this.#removed)).filter((name) => DATE.test(name))
    this.#dates = dates.filter((date) => date >= oldest)
    for (const date of dates) if (date < oldest) await this.#forgetDay(join(this.#removed, date))
  }

  /**
   * One by one: a day may have 100,000 of them, which `fs.rm` would all begin at once. A container
   * whose folder is still there, since its removal cannot be finished, would come back without its
   * tombstone: it gets one of today.
   */
  async #forgetDay(folder: string): Promise<void> {
    for await (const { name } of await opendir(folder)) {
      if (lstatSync(this.folderOf(name), { throwIfNoEntry: false })) await this.#addTombstone(name)
      await rm(join(folder, name), { recursive: true, force: true })
    }
    await rm(folder, { recursive: true, force: true })
  }

  #dateOf(time: number): string {
    return new Date(time).toISOString().slice(0, 10)
  }
}
