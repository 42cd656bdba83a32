import { StrataError } from '@strata/base'
import { z } from 'zod'
import { keys } from './keys.js'
import type { ObjectStore } from './objects/object-store.js'
import { GONE, Records } from './records.js'

const removedNodeSchema = z.object({
  /** The request that removed it. */
  by: z.string().max(100),
  /** ISO 8601. */
  removedAt: z.string().max(40),
})
export type RemovedNode = z.infer<typeof removedNodeSchema>

/** If the record exists, the node was removed, even if the record cannot be read. */
const UNREADABLE: RemovedNode = { by: '', removedAt: 'when and by what cannot be read' }

/**
 * Nodes that a user has removed, by id. Everything else that is known of nodes lies in Redis and is
 * a copy: a live node publishes it again. A removal is a decision, and nobody would publish it
 * again. So it lies in the store.
 */
export class RemovedNodes {
  readonly #records: Records<RemovedNode>

  constructor(store: ObjectStore) {
    this.#records = new Records(
      store,
      removedNodeSchema,
      'the record of the removed node',
      () => 'the node counts as removed',
    )
  }

  async find(id: string): Promise<RemovedNode | undefined> {
    const found = await this.#records.look(keys.removedNode(id))
    return found?.damage ? UNREADABLE : found?.value
  }

  /** Records the removal. A removal that was recorded before stays as it was. */
  async add(id: string, removed: RemovedNode): Promise<void> {
    if (await this.find(id)) return
    await this.#records.update(keys.removedNode(id), (before) => (before ? undefined : removed))
  }

  /**
   * Lets the node come back. Without `by`, its owner asked for that. With `by`, the request of that
   * id takes back the removal that it recorded itself, because it found that the node lives.
   */
  async clear(id: string, by?: string): Promise<void> {
    const key = keys.removedNode(id)
    const seen = await this.#records.look(key)
    if (seen?.damage) {
      // An owner may clear any removal. A request may clear only its own, and this record does not
      // show whose it is.
      if (by === undefined) await this.#records.retire(key, seen)
      return
    }
    await this.#records.update(key, (before) => (before && (by === undefined || before.by === by) ? GONE : undefined))
  }

  /** Why the node may not start; `undefined` if it may. */
  async refusal(id: string): Promise<StrataError | undefined> {
    const removed = await this.find(id)
    if (!removed) return undefined
    const message = `the node ${id} was removed (${removed.removedAt}): start it with another id, or once with --rejoin (STRATA_REJOIN=true) to bring it back with its containers`
    return new StrataError('node_removed', message)
  }
}
