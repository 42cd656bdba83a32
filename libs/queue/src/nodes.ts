import { StrataError } from '@strata/oci'
import type { Redis } from 'ioredis'
import { z } from 'zod'
import { orUnavailable } from './connection.js'
import { KEY } from './keys.js'

/** How a node makes itself known: renewed every few seconds, gone soon after the node is. */
export const nodeSchema = z.object({
  id: z.string(),
  /** `unix:///path` or `http://host:port` of the node's door. */
  door: z.string(),
  driver: z.string(),
  driverReason: z.string(),
  runtime: z.string(),
  kernel: z.string(),
  warnings: z.array(z.string()),
})
export type NodeRecord = z.infer<typeof nodeSchema>

const TTL_MS = 15_000
const PLACED_SECONDS = 24 * 3600

/** A lua claim: the name is ours if it is free, or ours already. */
const CLAIM = `local owner = redis.call('HGET', KEYS[1], ARGV[1])
if owner and owner ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return 1`
const RELEASE = `if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end return 1`

/**
 * Nodes and their containers as Redis shows them: a copy. A node's disk is the truth for its containers; it publishes them at its start, at
 * each change, and again when it finds Redis empty.
 */
export class NodeDirectory {
  constructor(private readonly redis: Redis) {}

  /** Renews the registration. True: Redis did not know this node (a first time, or Redis was emptied), so all must be published. */
  async register(node: NodeRecord): Promise<boolean> {
    const known = await this.redis.sismember(KEY.nodes, node.id)
    const exists = await this.redis.exists(KEY.node(node.id))
    await this.redis.multi().set(KEY.node(node.id), JSON.stringify(node), 'PX', TTL_MS).sadd(KEY.nodes, node.id).exec()
    return known === 0 || exists === 0
  }

  async unregister(id: string): Promise<void> {
    await this.redis.del(KEY.node(id))
  }

  /** The nodes that are alive. */
  async list(): Promise<NodeRecord[]> {
    return orUnavailable(
      (async () => {
        const ids = await this.redis.smembers(KEY.nodes)
        const texts = ids.length > 0 ? await this.redis.mget(ids.sort().map(KEY.node)) : []
        return texts.flatMap((text) => (text === null ? [] : [nodeSchema.parse(JSON.parse(text))]))
      })(),
    )
  }

  /** The ids of all nodes that ever registered, also of those that do not live. */
  async known(): Promise<string[]> {
    return (await orUnavailable(this.redis.smembers(KEY.nodes))).sort()
  }

  async get(id: string): Promise<NodeRecord> {
    const text = await orUnavailable(this.redis.get(KEY.node(id)))
    if (text === null) throw new StrataError('node_unavailable', `the node ${id} does not answer`)
    return nodeSchema.parse(JSON.parse(text))
  }

  /** Which node a container is placed on: the first that asks gets it, and every later one is told who did. */
  async claimContainer(container: string, node: string): Promise<string> {
    await orUnavailable(this.redis.set(KEY.placed(container), node, 'NX'))
    return (await orUnavailable(this.redis.get(KEY.placed(container)))) ?? node
  }

  /** Only for one that no node has: a container that was there is withdrawn. */
  async forgetContainer(container: string): Promise<void> {
    await orUnavailable(this.redis.del(KEY.placed(container)))
  }

  /** Claims a container's name; false where another container has it. */
  async claimName(name: string, container: string): Promise<boolean> {
    return (await orUnavailable(this.redis.eval(CLAIM, 1, KEY.names, name, container))) === 1
  }

  async releaseName(name: string, container: string): Promise<void> {
    await orUnavailable(this.redis.eval(RELEASE, 1, KEY.names, name, container))
  }

  /** Frees the name that a container claimed which never came to be, if it did. */
  async releaseNameOf(container: string): Promise<void> {
    const names = await orUnavailable(this.redis.hgetall(KEY.names))
    for (const [name, owner] of Object.entries(names)) if (owner === container) await this.releaseName(name, container)
  }

  async publish(node: string, container: string, view: unknown): Promise<void> {
    await this.redis.hset(KEY.containers(node), container, JSON.stringify(view))
  }

  /** Replaces all that Redis shows of this node's containers. */
  async publishAll(node: string, views: ReadonlyMap<string, unknown>): Promise<void> {
    const work = this.redis.multi().del(KEY.containers(node))
    for (const [id, view] of views) work.hset(KEY.containers(node), id, JSON.stringify(view))
    await work.exec()
  }

  /**
   * A removed container: its name is free, then it is not shown any more. Where it was placed is remembered for longer than its request may run
   * again: another node must not take it then.
   */
  async withdraw(node: string, container: string, name: string | undefined): Promise<void> {
    if (name !== undefined) await this.releaseName(name, container)
    await this.redis.multi().expire(KEY.placed(container), PLACED_SECONDS).hdel(KEY.containers(node), container).exec()
  }

  /** What this node published last, as JSON values. */
  async published(node: string): Promise<unknown[]> {
    return (await this.redis.hvals(KEY.containers(node))).map((text) => JSON.parse(text) as unknown)
  }

  /** Every node's containers as published: JSON values, in no order. */
  async containers(): Promise<unknown[]> {
    return orUnavailable(
      (async () => {
        const ids = await this.redis.smembers(KEY.nodes)
        const lists = await Promise.all(ids.map((id) => this.redis.hvals(KEY.containers(id))))
        return lists.flat().map((text) => JSON.parse(text) as unknown)
      })(),
    )
  }
}
