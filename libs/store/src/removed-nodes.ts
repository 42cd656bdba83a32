import { StrataError } from '@strata/oci'
import { z } from 'zod'
import { keys } from './keys.js'
import type { ObjectStore } from './object-store.js'
import { GONE, Records } from './records.js'

const removedNodeSchema = z.object({
  /** The request that removed it. */
  by: z.string().max(100),
  /** ISO 8601. */
  removedAt: z.string().max(40),
})
export type RemovedNode = z.infer<typeof removedNodeSchema>

/**
 * Nodes that a person has removed, by their ids. All else that is known of nodes lies in Redis and
 * is a copy: a node that lives says it again. That a node is *not* to come back is a decision,
 * which nobody would say again; so it lies here.
 */
export class RemovedNodes {
  readonly #records: Records<RemovedNode>

  constructor(store: ObjectStore) {
    this.#records = new Records(store, removedNodeSchema, 'the record of the removed node')
  }

  async find(id: string): Promise<RemovedNode | undefined> {
    return this.#records.read(keys.removedNode(id))
  }

  /** Notes it; one that was noted before stays as it was. */
  async add(id: string, removed: RemovedNode): Promise<void> {
    await this.#records.update(keys.removedNode(id), (before) => (before ? undefined : removed))
  }

  /**
   * The node may come back: told so by its owner, or by the request `by`, which found that it
   * lives.
   */
  async clear(id: string, by?: string): Promise<void> {
    await this.#records.update(keys.removedNode(id), (before) =>
      before && (by === undefined || before.by === by) ? GONE : undefined,
    )
  }

  /** Why the node may not start; `undefined` if it may. */
  async refusal(id: string): Promise<StrataError | undefined> {
    const removed = await this.find(id)
    if (!removed) return undefined
    const message = `the node ${id} was removed (${removed.removedAt}): start it with another id, or once with --rejoin (STRATA_REJOIN=true) to bring it back with its containers`
    return new StrataError('node_removed', message)
  }
}
