import { mkdir, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ContainerRecord } from './container.js'
import { replaceFile, syncFolder } from './atomic.js'

const RECORD = 'container.json'
const ID = /^[0-9a-f]{64}$/
/** Far longer than a launch job is kept: no job can ask for a removed container after that. */
const TOMBSTONE_MS = 30 * 24 * 3600 * 1000

/**
 * Containers on the node's disk: `<folder>/<id>/container.json` with the log beside it, and `<folder>/removed/<id>`, an empty file, for what was
 * removed. Written by rename: the death of a process leaves the old or the new record. Power may fail only where `durable` is said.
 */
export class RecordStore {
  readonly #removed: string
  readonly #gone = new Set<string>()

  constructor(readonly folder: string) {
    this.#removed = join(folder, 'removed')
  }

  folderOf(id: string): string {
    return join(this.folder, id)
  }

  /** The records; and the ids of folders that are to go: a removal or a claim was interrupted. */
  async open(): Promise<{ records: ContainerRecord[]; leftovers: string[] }> {
    await mkdir(this.#removed, { recursive: true, mode: 0o700 })
    const expired = Date.now() - TOMBSTONE_MS
    for (const id of await readdir(this.#removed)) {
      const path = join(this.#removed, id)
      if ((await stat(path)).mtimeMs < expired) await rm(path)
      else this.#gone.add(id)
    }
    const records: ContainerRecord[] = []
    const leftovers: string[] = []
    for (const id of (await readdir(this.folder)).filter((name) => ID.test(name))) {
      const record = this.#gone.has(id) ? undefined : await this.#read(id)
      if (record) records.push(record)
      else leftovers.push(id)
    }
    return { records, leftovers }
  }

  isRemoved(id: string): boolean {
    return this.#gone.has(id)
  }

  async save(record: ContainerRecord, options: { durable: boolean }): Promise<void> {
    const folder = this.folderOf(record.id)
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await replaceFile(join(folder, RECORD), JSON.stringify(record), options)
    if (options.durable) await syncFolder(this.folder)
  }

  /** From here on the container is gone, whatever is left of it. */
  async bury(id: string): Promise<void> {
    const path = join(this.#removed, id)
    await writeFile(path, '', { mode: 0o600 })
    await utimes(path, new Date(), new Date())
    this.#gone.add(id)
  }

  /** Record, logs and all else of the container's folder. */
  async drop(id: string): Promise<void> {
    await rm(this.folderOf(id), { recursive: true, force: true })
  }

  async #read(id: string): Promise<ContainerRecord | undefined> {
    try {
      return JSON.parse(await readFile(join(this.folderOf(id), RECORD), 'utf8')) as ContainerRecord
    } catch (error) {
      // A folder without a record: claim died before the rename, so nobody was told of it.
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
      throw error
    }
  }
}
