import { StrataError } from '@strata/base'
import type { ChainableCommander, Redis } from 'ioredis'
import { z } from 'zod'
import { orUnavailable } from '../connection.js'
import { LostRun, type JobLock } from '../journal.js'
import { KEY } from '../keys.js'
import type { NodeIdentity } from './node-identity.js'
import {
  NODE_PARTS,
  nodeSchema,
  nodeStatus,
  type NodePart,
  type NodeRecord,
  type NodeStatus,
  type ReadPart,
} from './node-status.js'
import { CLAIM, CLAIM_CONTAINER, GIVE_BACK, LEAVE, REGISTER, RELEASE, USES, WITHDRAW } from './scripts.js'

const PLACED_SECONDS = 24 * 3600

const ownerSchema = z.object({ instance: z.string(), boot: z.string(), host: z.string() })

/** What a node publishes of a container, as JSON. By its image it is found. */
interface Published {
  readonly imageId: string
}

/** What a registration came to. */
export type Registered =
  | {
      readonly kind: 'registered'
      /** This instance did not have the id, or had let it lapse: others may have acted on that. */
      readonly lapsed: boolean
      /** What this part had published may be gone from Redis. */
      readonly unknown: boolean
      readonly whole: boolean
    }
  /** `leftMs`: until the other's registration ends, if it is not renewed. */
  | { readonly kind: 'taken'; readonly host: string; readonly leftMs: number }

/**
 * Nodes and their containers as Redis shows them: a copy. A node's disk is the truth for its
 * containers; it publishes them at its start, at each change, and again when it finds Redis empty.
 */
export class NodeDirectory {
  constructor(private readonly redis: Redis) {}

  /**
   * Takes or renews the id for this instance. `said`: what the part tells others; `null` where it
   * is enough that it is there, `undefined` where it is not to be found yet.
   */
  async register(identity: NodeIdentity, part: NodePart, said: NodeRecord | null | undefined): Promise<Registered> {
    const { id, instance, boot, host } = identity
    const [own, other] = partKeys(id, part)
    const owner = JSON.stringify(ownerSchema.parse({ instance, boot, host }))
    const text = said === undefined ? '' : JSON.stringify(said ?? { host })
    const keys = [KEY.nodeOwner(id), own, other, KEY.nodes, KEY.nodesSeen, KEY.nodesUnpublished]
    const answer = (await this.redis.eval(
      REGISTER,
      keys.length,
      ...keys,
      id,
      instance,
      boot,
      owner,
      text,
      `${id}/${part}`,
      part === 'runtime' ? '1' : '0',
    )) as [number, ...(string | number)[]]
    if (answer[0] === 0) return { kind: 'taken', host: String(answer[1]), leftMs: Number(answer[2]) }
    return { kind: 'registered', lapsed: answer[1] === 1, unknown: answer[2] === 1, whole: answer[3] === 1 }
  }

  /**
   * The part ends: it is not shown any more, and the id is free when the other part is not there
   * either.
   */
  async leave({ id, instance, boot }: NodeIdentity, part: NodePart): Promise<void> {
    await this.redis.eval(LEAVE, 3, KEY.nodeOwner(id), ...partKeys(id, part), instance, boot)
  }

  /** The nodes whose runtime lives: their node APIs answer. */
  async list(): Promise<NodeRecord[]> {
    return orUnavailable(
      (async () => {
        const ids = await this.redis.smembers(KEY.nodes)
        const texts = ids.length > 0 ? await this.redis.mget(ids.sort().map(KEY.node)) : []
        return texts.flatMap((text) => (text === null ? [] : [nodeSchema.parse(JSON.parse(text))]))
      })(),
    )
  }

  /** The nodes that can take work: both parts live. */
  async ready(): Promise<NodeRecord[]> {
    const [records, statuses] = await Promise.all([this.list(), this.statuses()])
    const ready = new Set(statuses.filter(({ state }) => state === 'ready').map(({ id }) => id))
    return records.filter(({ id }) => ready.has(id))
  }

  /**
   * Every node that is known, in the order of their ids. Two questions to Redis, however many there
   * are.
   */
  async statuses(): Promise<NodeStatus[]> {
    return this.statusesOf(await this.known())
  }

  /** The same of these nodes: one question. */
  async statusesOf(ids: readonly string[]): Promise<NodeStatus[]> {
    if (ids.length === 0) return []
    return orUnavailable(
      (async () => {
        const parts = ids.flatMap((id) => NODE_PARTS.map((part) => ({ id, part })))
        // In one step, so that what is read fits together.
        const [texts, seen, [seconds, micros]] = valuesOf<[(string | null)[], (string | null)[], [string, string]]>(
          await this.redis
            .multi()
            .mget(parts.map(({ id, part }) => partKeys(id, part)[0]))
            .hmget(KEY.nodesSeen, ...parts.map(({ id, part }) => `${id}/${part}`))
            .time()
            .exec(),
        )
        const now = Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)
        const part = (at: number): ReadPart => ({ text: texts[at] ?? null, seen: seen[at] ?? null })
        return ids.map((id, at) => nodeStatus(id, { runtime: part(2 * at), extractor: part(2 * at + 1) }, now))
      })(),
    )
  }

  /** The ids of all nodes that ever registered, also of those that do not live. */
  async known(): Promise<string[]> {
    return (await orUnavailable(this.redis.smembers(KEY.nodes))).sort()
  }

  async get(id: string): Promise<NodeRecord> {
    const text = await orUnavailable(this.redis.get(KEY.node(id)))
    if (text === null)
      throw new StrataError(
        'node_unavailable',
        `the node ${id} does not answer: start it again, or forget it and its containers with \`strata node rm ${id}\``,
      )
    return nodeSchema.parse(JSON.parse(text))
  }

  /**
   * Whether some process has the id: a node that lives, that just starts, or that died less than 15
   * s ago.
   */
  async isOwned(id: string): Promise<boolean> {
    return (await orUnavailable(this.redis.exists(KEY.nodeOwner(id), KEY.node(id), KEY.extractor(id)))) > 0
  }

  /**
   * Forgets a node that is gone for good: its containers, their names, and that it was ever there.
   * May be done again.
   */
  async forget(id: string): Promise<void> {
    const names = await this.claimedNames()
    for (const container of await orUnavailable(this.redis.hkeys(KEY.containers(id))))
      await this.withdraw(id, container, names.get(container))
    await orUnavailable(
      this.redis
        .multi()
        .del(KEY.node(id), KEY.extractor(id), KEY.nodeOwner(id), KEY.containers(id), KEY.uses(id))
        .hdel(KEY.nodesSeen, `${id}/runtime`, `${id}/extractor`)
        .srem(KEY.nodes, id)
        .srem(KEY.nodesUnpublished, id)
        .exec(),
    )
  }

  /** Which node has taken a container; `undefined`: none. */
  async placedOn(container: string): Promise<string | undefined> {
    return (await orUnavailable(this.redis.get(KEY.placed(container)))) ?? undefined
  }

  /**
   * Which node a container is placed on: the first that asks gets it, and every later one is told
   * who did. With a `lock` only while that run has its job.
   * @throws LostRun
   */
  async claimContainer(container: string, node: string, lock?: JobLock): Promise<string> {
    const keys = [KEY.placed(container), lock?.key ?? '']
    const owner = await orUnavailable(this.redis.eval(CLAIM_CONTAINER, keys.length, ...keys, node, lock?.token ?? ''))
    if (typeof owner !== 'string') throw new LostRun(`what places the container ${container}`)
    return owner
  }

  /**
   * A run gives back the name of a container that will not be, and with `placement` its place too.
   * The place is kept for a container that a node may have.
   * @throws LostRun
   */
  async giveBack(name: string, container: string, lock: JobLock, { placement }: { placement: boolean }): Promise<void> {
    const keys = [KEY.names, lock.key, placement ? KEY.placed(container) : '']
    const outcome = await orUnavailable(this.redis.eval(GIVE_BACK, keys.length, ...keys, name, container, lock.token))
    if (outcome !== 1) throw new LostRun(`what places the container ${container}`)
  }

  /** Claims a container's name; false where another container has it. */
  async claimName(name: string, container: string): Promise<boolean> {
    return (await orUnavailable(this.redis.eval(CLAIM, 1, KEY.names, name, container))) === 1
  }

  async releaseName(name: string, container: string): Promise<void> {
    await orUnavailable(this.redis.eval(RELEASE, 1, KEY.names, name, container))
  }

  /** Every container's name, by container. */
  async claimedNames(): Promise<Map<string, string>> {
    const names = Object.entries(await orUnavailable(this.redis.hgetall(KEY.names)))
    return new Map(names.map(([name, container]) => [container, name]))
  }

  /** Frees the name that a container claimed which never came to be, if it did. */
  async releaseNameOf(container: string): Promise<void> {
    const names = await orUnavailable(this.redis.hgetall(KEY.names))
    for (const [name, owner] of Object.entries(names)) if (owner === container) await this.releaseName(name, container)
  }

  async publish(node: string, container: string, view: Published): Promise<void> {
    const work = this.redis.multi()
    show(work, node, container, view)
    await work.exec()
  }

  /** Replaces all that Redis shows of this node's containers. */
  async publishAll(node: string, views: ReadonlyMap<string, Published>): Promise<void> {
    const work = this.redis.multi().del(KEY.containers(node), KEY.uses(node))
    for (const [id, view] of views) show(work, node, id, view)
    await work.srem(KEY.nodesUnpublished, node).exec()
  }

  /**
   * A removed container: its name is free, then it is not shown any more. Where it was placed is
   * remembered for longer than its request may run again: another node must not take it then.
   */
  async withdraw(node: string, container: string, name: string | undefined): Promise<void> {
    if (name !== undefined) await this.releaseName(name, container)
    const keys = [KEY.containers(node), KEY.uses(node), KEY.placed(container)]
    await orUnavailable(this.redis.eval(WITHDRAW, keys.length, ...keys, container, PLACED_SECONDS))
  }

  /** How many containers each of these nodes has published. */
  async containerCounts(nodes: readonly string[]): Promise<number[]> {
    return this.#each(nodes, (work, node) => work.hlen(KEY.containers(node)))
  }

  /** The ids of the containers that this node has published, in their order. Reads no container. */
  async containerIds(node: string): Promise<string[]> {
    return (await orUnavailable(this.redis.hkeys(KEY.containers(node)))).sort()
  }

  /** These containers as the node published them last: JSON values of those that are there. */
  async publishedOf(node: string, ids: readonly string[]): Promise<unknown[]> {
    if (ids.length === 0) return []
    const texts = await orUnavailable(this.redis.hmget(KEY.containers(node), ...ids))
    return texts.flatMap((text) => (text === null ? [] : [JSON.parse(text) as unknown]))
  }

  /** A container as its node published it last: a JSON value. `undefined`: no node has. */
  async publishedById(container: string): Promise<unknown> {
    const texts = await this.#each<string | null>(await this.known(), (work, node) =>
      work.hget(KEY.containers(node), container),
    )
    const text = texts.find((found) => found !== null)
    return text == null ? undefined : (JSON.parse(text) as unknown)
  }

  /** The container that has claimed a name. It may not be published, or not yet. */
  async claimantOf(name: string): Promise<string | undefined> {
    return (await orUnavailable(this.redis.hget(KEY.names, name))) ?? undefined
  }

  /** One command for each node, all in one question. */
  async #each<T>(nodes: readonly string[], ask: (work: ChainableCommander, node: string) => void): Promise<T[]> {
    if (nodes.length === 0) return []
    const work = this.redis.pipeline()
    for (const node of nodes) ask(work, node)
    return valuesOf<T[]>(await orUnavailable(work.exec()))
  }

  /** What this node published last, as JSON values. */
  async published(node: string): Promise<unknown[]> {
    return (await this.redis.hvals(KEY.containers(node))).map((text) => JSON.parse(text) as unknown)
  }

  /**
   * Every node's containers as published, for who acts on what is not among them: JSON values, in
   * no order. Right after Redis was emptied no container is among them, though all may run. What a
   * node that is gone has published last still counts: what it has left does not change.
   * `forced`: as far as Redis knows.
   * @throws StrataError `node_unavailable`, without `forced`, where no node is known, or one has
   * not published since Redis knows it
   */
  async allContainers({ forced = false } = {}): Promise<unknown[]> {
    const lists = await this.#ofAll<string[]>(forced, (work, node) => work.hvals(KEY.containers(node)))
    return lists.flat().map((text) => JSON.parse(text) as unknown)
  }

  /**
   * Whether a container uses the image. Asks as `allContainers` does, at a cost that does not grow
   * with the number of containers.
   */
  async usesImage(image: string, { forced = false } = {}): Promise<boolean> {
    const uses = await this.#ofAll<0 | 1>(forced, (work, node) =>
      work.eval(USES, 2, KEY.containers(node), KEY.uses(node), image),
    )
    return uses.includes(1)
  }

  /**
   * What is asked of each known node, all in one step: Redis may be emptied at any time, and nodes
   * come back one by one.
   */
  async #ofAll<T>(forced: boolean, ask: (work: ChainableCommander, node: string) => void): Promise<T[]> {
    const known = await this.known()
    const work = this.redis.multi().smembers(KEY.nodes).smembers(KEY.nodesUnpublished)
    for (const id of known) ask(work, id)
    const [now, unpublished, ...answers] = valuesOf<[string[], string[], ...T[]]>(await orUnavailable(work.exec()))
    if (forced) return answers
    const missing = now.find((id) => unpublished.includes(id) || !known.includes(id))
    if (missing !== undefined)
      throw new StrataError(
        'node_unavailable',
        `the node ${missing} has not told yet which containers it has: try again, or forget it with \`strata node rm ${missing}\` if it is gone for good`,
      )
    if (now.length === 0)
      throw new StrataError(
        'node_unavailable',
        'no node is known, so none can tell which containers there are: try again when one runs (`strata up`)',
      )
    return answers
  }
}

function show(work: ChainableCommander, node: string, container: string, view: Published): void {
  work.hset(KEY.containers(node), container, JSON.stringify(view))
  work.zadd(KEY.uses(node), 0, `${view.imageId} ${container}`)
}

function partKeys(id: string, part: NodePart): [own: string, other: string] {
  return part === 'runtime' ? [KEY.node(id), KEY.extractor(id)] : [KEY.extractor(id), KEY.node(id)]
}

/** The answers of a transaction. */
function valuesOf<T extends readonly unknown[]>(answers: [Error | null, unknown][] | null): T {
  if (!answers) throw new Error('Redis has dropped the transaction')
  return answers.map(([error, value]) => {
    if (error) throw error
    return value
  }) as unknown as T
}
