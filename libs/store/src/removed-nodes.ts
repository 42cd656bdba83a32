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

/** That a record is there says that the node was removed, also where the rest cannot be read. */
const UNREADABLE: RemovedNode = { by: '', removedAt: 'when and by what cannot be read' }

/**
 * Nodes that a person has removed, by their ids. All else that is known of nodes lies in Redis and
 * is a copy: a node that lives says it again. That a node is *not* to come back is a decision,
 * which nobody would say again; so it lies here.
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

  /** Notes it; one that was noted before stays as it was. */
  async add(id: string, removed: RemovedNode): Promise<void> {
    if (await this.find(id)) return
    await this.#records.update(keys.removedNode(id), (before) => (before ? undefined : removed))
  }

  /**
   * The node may come back: told so by its owner, or by the request `by`, which found that it
   * lives.
   */
  async clear(id: string, by?: string): Promise<void> {
    const key = keys.removedNode(id)
    const seen = await this.#records.look(key)
    if (seen?.damage) {
      // The owner's word is enough. A request has not written this one, as far as anyone can tell.
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
