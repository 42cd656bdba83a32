import { StrataError } from '@strata/base'
import type { ContainerRecord } from '../container.js'
import { Entry, notFound } from './entry.js'
import { ContainerLog } from '../log/container-log.js'
import type { LogLimits } from '../log/types.js'
import type { RecordStore } from './record-store.js'

/** Receives each new record of a container, and `undefined` when the container was removed. */
export type ContainerListener = (id: string, record: ContainerRecord | undefined) => void

/**
 * The containers of a node in memory, by their ids: found by id, prefix or name, written through to
 * disk, and announced to listeners after each change.
 */
export class Registry {
  readonly #entries = new Map<string, Entry>()
  readonly #listeners = new Set<ContainerListener>()

  constructor(
    private readonly store: RecordStore,
    private readonly logLimits: LogLimits,
    private readonly warn: (message: string) => void,
  ) {}

  enter(record: ContainerRecord): Entry {
    const log = new ContainerLog(this.store.logOf(record.id), this.logLimits, this.warn)
    const entry = new Entry(record, log)
    this.#entries.set(record.id, entry)
    return entry
  }

  /** Takes an entry out that is not, or no longer, a container. Whoever waits for it is woken. */
  drop(entry: Entry): void {
    this.#entries.delete(entry.record.id)
    entry.removed = true
    entry.changed()
  }

  peek(id: string): Entry | undefined {
    return this.#entries.get(id)
  }

  /** @throws StrataError `container_not_found` */
  get(id: string): Entry {
    const entry = this.#entries.get(id)
    if (!entry) throw notFound(id)
    return entry
  }

  /**
   * By id, name, or unique id prefix.
   * @throws StrataError `container_not_found`, `container_ambiguous`
   */
  find(ref: string): ContainerRecord {
    const all = this.records()
    const exact = all.find((record) => record.id === ref) ?? all.find((record) => record.name === ref)
    if (exact) return exact
    const [first, second] = /^[0-9a-f]+$/.test(ref) ? all.filter((record) => record.id.startsWith(ref)) : []
    if (!first) throw notFound(ref)
    if (second) throw new StrataError('container_ambiguous', `${ref} is the beginning of more than one container's id`)
    return first
  }

  /** In the order in which they were made. */
  entries(): Entry[] {
    return [...this.#entries.values()]
  }

  /** In the order in which they were made. */
  records(): ContainerRecord[] {
    return this.entries().map((entry) => entry.record)
  }

  async save(entry: Entry, record: ContainerRecord, options = { durable: false }): Promise<void> {
    await this.store.save(record, options)
    entry.record = record
    entry.changed()
    this.announce(record.id, record)
  }

  /** Gives the function that ends it. */
  onChange(listener: ContainerListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  announce(id: string, record: ContainerRecord | undefined): void {
    for (const listener of [...this.#listeners]) listener(id, record)
  }
}
