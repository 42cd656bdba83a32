import { containerSchema } from '@strata/api'
import type { Containers, ContainerRecord } from '@strata/containers'
import type { NodeDirectory, NodeRecord } from '@strata/queue'
import { publicView } from './container-view.js'

/** Well within the registration's life, and soon enough to publish all again when Redis was emptied. */
const RENEW_MS = 3_000

/**
 * Keeps Redis' copy of this node's containers right: all of them at the start and whenever Redis does not know the node, one at each change.
 * Writes are made one after another, so that an older state never lands after a newer one.
 */
export class Publisher {
  readonly #timer: NodeJS.Timeout
  readonly #unlisten: () => void
  #tail: Promise<void>
  /** By container: known here when the record is gone. */
  readonly #names = new Map<string, string>()

  constructor(
    private readonly directory: NodeDirectory,
    private readonly node: NodeRecord,
    private readonly containers: Containers,
    private readonly warn: (message: string) => void,
  ) {
    this.#tail = this.#renew(true)
    this.#unlisten = containers.onChange((id, record) => this.#enqueue(() => this.#one(id, record)))
    this.#timer = setInterval(() => this.#enqueue(() => this.#renew(false)), RENEW_MS)
  }

  /** All that has happened so far is published. */
  settled(): Promise<void> {
    return this.#tail
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    this.#unlisten()
    await this.#tail
    await this.directory.unregister(this.node.id)
  }

  #enqueue(work: () => Promise<void>): void {
    this.#tail = this.#tail.then(work).catch((error: unknown) => this.warn(`publishing: ${String(error)}`))
  }

  async #renew(first: boolean): Promise<void> {
    const unknown = await this.directory.register(this.node)
    if (!first && !unknown) return
    const records = this.containers.list()
    for (const { id, name } of records) if (name !== undefined) this.#names.set(id, name)
    const present = new Set(records.map(({ id }) => id))
    // Removed, but this node's process died before it said so.
    for (const { id, name } of (await this.directory.published(this.node.id)).map((view) => containerSchema.parse(view))) {
      if (!present.has(id)) await this.directory.withdraw(this.node.id, id, name)
    }
    await this.directory.publishAll(this.node.id, new Map(records.map((record) => [record.id, publicView(record, this.node.id)])))
    for (const { id, name } of records) {
      await this.directory.claimContainer(id, this.node.id)
      if (name !== undefined) await this.directory.claimName(name, id)
    }
  }

  async #one(id: string, record: ContainerRecord | undefined): Promise<void> {
    if (record) {
      if (record.name !== undefined) this.#names.set(id, record.name)
      return this.directory.publish(this.node.id, id, publicView(record, this.node.id))
    }
    await this.directory.withdraw(this.node.id, id, this.#names.get(id))
    this.#names.delete(id)
  }
}
