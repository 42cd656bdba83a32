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

const ownerSchema = z.object({ instance: z.string(), boot: z.string(), host: z.string() })

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

/** How long a registration lives that is not renewed. */
export const LIFE_MS = 15_000
const PLACED_SECONDS = 24 * 3600

/**
 * Takes or keeps the id for one instance, in one step: two that start at once cannot both have it.
 * KEYS owner, own part, other part, nodes, seen, unpublished · ARGV id, instance, boot, owner's
 * record, what the part says ('' if it is not to be shown yet), field in `seen`, '1' for a runtime:
 * of the host's two names its own counts, since an extractor in a container of its own does not see
 * the machine's
 */
const REGISTER = `local text = redis.call('GET', KEYS[1])
local lapsed = 1
if text then
  local owner = cjson.decode(text)
  if owner.instance ~= ARGV[2] or owner.boot ~= ARGV[3] then return {0, owner.host, redis.call('PTTL', KEYS[1])} end
  lapsed = 0
end
local unknown = 1 - redis.call('EXISTS', KEYS[2])
redis.call('SET', KEYS[1], (lapsed == 1 or ARGV[7] == '1') and ARGV[4] or text, 'PX', ${LIFE_MS})
if ARGV[5] ~= '' then
  if redis.call('SADD', KEYS[4], ARGV[1]) == 1 then
    unknown = 1
    redis.call('SADD', KEYS[6], ARGV[1])
  end
  local now = redis.call('TIME')
  redis.call('SET', KEYS[2], ARGV[5], 'PX', ${LIFE_MS})
  redis.call('HSET', KEYS[5], ARGV[6], string.format('%d%03d ', now[1], math.floor(now[2] / 1000)) .. ARGV[5])
end
return {1, lapsed, unknown, redis.call('EXISTS', KEYS[3])}`
/**
 * KEYS owner, own part, other part · ARGV instance, boot. The id is free at once when no part is
 * left.
 */
const LEAVE = `local text = redis.call('GET', KEYS[1])
if not text then return 0 end
local owner = cjson.decode(text)
if owner.instance ~= ARGV[1] or owner.boot ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[2])
if redis.call('EXISTS', KEYS[3]) == 0 then redis.call('DEL', KEYS[1]) end
return 1`

/** A lua claim: the name is ours if it is free, or ours already. */
const CLAIM = `local owner = redis.call('HGET', KEYS[1], ARGV[1])
if owner and owner ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return 1`
/**
 * KEYS placed, lock · ARGV node, the lock's token or ''. Who has the container then; nothing if the
 * lock is another's.
 */
const CLAIM_CONTAINER = `if ARGV[2] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[2] then return false end
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])`
/**
 * KEYS names, lock, placed ('' keeps it) · ARGV name, container, the lock's token. 0 if the lock is
 * another's.
 */
const GIVE_BACK = `if redis.call('GET', KEYS[2]) ~= ARGV[3] then return 0 end
if KEYS[3] ~= '' then redis.call('DEL', KEYS[3]) end
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 1`
const RELEASE = `if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end return 1`

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
    const names = new Map(
      Object.entries(await orUnavailable(this.redis.hgetall(KEY.names))).map(([name, container]) => [container, name]),
    )
    for (const container of await orUnavailable(this.redis.hkeys(KEY.containers(id))))
      await this.withdraw(id, container, names.get(container))
    await orUnavailable(
      this.redis
        .multi()
        .del(KEY.node(id), KEY.extractor(id), KEY.nodeOwner(id), KEY.containers(id))
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
    await work.srem(KEY.nodesUnpublished, node).exec()
  }

  /**
   * A removed container: its name is free, then it is not shown any more. Where it was placed is
   * remembered for longer than its request may run again: another node must not take it then.
   */
  async withdraw(node: string, container: string, name: string | undefined): Promise<void> {
    if (name !== undefined) await this.releaseName(name, container)
    await this.redis.multi().expire(KEY.placed(container), PLACED_SECONDS).hdel(KEY.containers(node), container).exec()
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
   * As `containers`, for who acts on what is not among them. Right after Redis was emptied no
   * container is, though all may run. What a node that is gone has published last still counts:
   * what it has left does not change.
   * @throws StrataError `node_unavailable` where no node is known, or one has not published since
   * Redis knows it
   */
  async allContainers(): Promise<unknown[]> {
    const known = await this.known()
    const work = this.redis.multi().smembers(KEY.nodes).smembers(KEY.nodesUnpublished)
    for (const id of known) work.hvals(KEY.containers(id))
    // In one step: Redis may be emptied at any time, and nodes come back one by one.
    const [now = [], unpublished = [], ...lists] = ((await orUnavailable(work.exec())) ?? []).map(([error, value]) => {
      if (error) throw error
      return value as string[]
    })
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
    return lists.flat().map((text) => JSON.parse(text) as unknown)
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
