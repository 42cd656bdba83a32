import type { StrataError } from '@strata/base'
import { QueueClient } from '../client.js'
import { NodeMembership } from './membership.js'
import { nodeIdentity } from './node-identity.js'
import type { JobObserver } from '../jobs/worker.js'
import type { NodePart } from './node-status.js'

export interface JoinOptions {
  /** The part's configuration: how both parts of a node say who they are. */
  readonly config: {
    readonly STRATA_REDIS: string
    readonly STRATA_NODE: string
    readonly STRATA_NODE_FOLDER: string
    readonly STRATA_REJOIN: boolean
  }
  readonly part: NodePart
  /** The machine's boot. */
  readonly boot: string
  /** The notes of nodes that a person has removed (`RemovedNodes` of `@strata/store`). */
  readonly removed: {
    refusal(id: string): Promise<StrataError | undefined>
    clear(id: string): Promise<void>
  }
  readonly warn: (message: string) => void
  /** Gets the runs of jobs, for metrics. */
  readonly observer?: JobObserver
}

/**
 * Starts one part of a node: takes the node's id, then has `open` make the part. The id comes
 * first, because what a node has in the kernel is named by it, and another node's would be taken
 * for its own. If anything fails the id is given back and the client is closed. Otherwise both are
 * `open`'s to keep.
 * @throws StrataError `node_exists`, `node_removed`, and what `open` throws
 */
export async function joinNode<T>(
  { config, part, boot, removed, warn, observer }: JoinOptions,
  open: (queue: QueueClient, membership: NodeMembership) => Promise<T>,
): Promise<T> {
  const identity = nodeIdentity(config.STRATA_NODE, config.STRATA_NODE_FOLDER, boot)
  const queue = await QueueClient.forWork(config.STRATA_REDIS, observer)
  let membership: NodeMembership | undefined
  try {
    if (config.STRATA_REJOIN) await removed.clear(identity.id)
    const refusal = (): Promise<StrataError | undefined> => removed.refusal(identity.id)
    membership = await NodeMembership.join({ directory: queue.nodes, identity, part, removed: refusal, warn })
    return await open(queue, membership)
  } catch (error) {
    await membership?.leave()
    await queue.close()
    throw error
  }
}
