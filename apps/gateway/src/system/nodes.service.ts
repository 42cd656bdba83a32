import { Injectable, Logger } from '@nestjs/common'
import type { NodeList, NodeView } from '@strata/api'
import { StrataError } from '@strata/base'
import { NodeDirectory, QUEUES, type NodeStatus } from '@strata/queue'
import { Requests } from '../jobs/requests.js'

/**
 * How long a removal may take. The node's last jobs are ended first, and those that were under way
 * keep their locks for a while.
 */
const REMOVAL_MS = 90_000

/** The nodes: those that work, and those that are gone. */
@Injectable()
export class NodesService {
  readonly #logger = new Logger('nodes')

  constructor(
    private readonly nodes: NodeDirectory,
    private readonly requests: Requests,
  ) {}

  /** A page, in the order of the ids; `next` is there if more may follow. */
  async list(limit: number, after = ''): Promise<NodeList> {
    const behind = (await this.nodes.known()).filter((id) => id > after)
    const ids = behind.slice(0, limit)
    const [statuses, counts] = await Promise.all([this.nodes.statusesOf(ids), this.nodes.containerCounts(ids)])
    const next = behind.length > limit ? ids.at(-1) : undefined
    return {
      nodes: statuses.map((status, i) => viewOf(status, counts[i] ?? 0)),
      ...(next === undefined ? {} : { next }),
    }
  }

  /**
   * Removes a node that is gone for good, with its containers.
   * @param force also if containers may still be running there
   * @throws StrataError `node_not_found`, `node_in_use`, `queue_unavailable`
   */
  async remove(node: string, force: boolean, gone: AbortSignal): Promise<void> {
    const late = AbortSignal.timeout(REMOVAL_MS)
    try {
      // The job stays if the client leaves: the node is removed all the same.
      await this.requests.work(
        (by) => ({ name: 'forget-node', queue: QUEUES.storage, id: `forget-${by}`, data: { node, force, by } }),
        AbortSignal.any([gone, late]),
        { stay: true },
      )
      this.#logger.log(`removed the node ${node}`)
    } catch (error) {
      if (!late.aborted) throw error
      throw new StrataError(
        'queue_unavailable',
        `no storage service has removed the node ${node} yet: make sure that one runs (strata storage), then list the nodes again`,
      )
    }
  }
}

function viewOf({ id, state, host, runtime, extractor, last }: NodeStatus, containers: number): NodeView {
  const at = state === 'ready' ? undefined : state === 'no_extractor' ? extractor.seenAt : runtime.seenAt
  return {
    id,
    state,
    host,
    ...(at === undefined ? {} : { since: new Date(at).toISOString() }),
    ...(last ? { driver: last.driver, runtime: last.runtime, kernel: last.kernel } : {}),
    containers,
  }
}
