import type { Redis } from 'ioredis'
import { BULL_PREFIX } from '../keys.js'

/** BullMQ's lists and sets of a queue, by what is told of them. `wait` is the first. */
const LISTS = {
  waiting: 'wait',
  background: 'prioritized',
  active: 'active',
  delayed: 'delayed',
  children: 'waiting-children',
} as const
type State = keyof typeof LISTS

/** A queue as it is at one moment. */
export interface QueueDepth {
  /** The queue; `<kind>.node` for that of a node, whose name is not told. */
  readonly queue: string
  /**
   * How many jobs are in each state. `background`: nobody waits for them, and they come after all
   * others. `children`: they wait for other jobs.
   */
  readonly jobs: Readonly<Record<State, number>>
  /**
   * How long ago the job that a worker takes next was added; 0 if none waits. A job that has waited
   * for its children counts from when it was added first. Those in the background do not count.
   */
  readonly oldestWaitingSeconds: number
}

/**
 * The sizes of the keys, and when the job was added that is taken next: the last one of `wait`.
 * Each is O(1), however much waits. The time is Redis's.
 */
const DEPTH = `
local sizes = {}
for at, key in ipairs(KEYS) do
  sizes[at] = redis.call(redis.call('TYPE', key).ok == 'list' and 'LLEN' or 'ZCARD', key)
end
local next = redis.call('LINDEX', KEYS[1], -1)
local added = next and redis.call('HGET', ARGV[1] .. next, 'timestamp')
return { sizes, added or '', redis.call('TIME')[1] }`

/** One question to Redis for each queue. Those with the same label are one. */
export async function queueDepths(redis: Redis, queues: Iterable<string>): Promise<QueueDepth[]> {
  const found = new Map<string, QueueDepth>()
  for (const depth of await Promise.all([...queues].map((queue) => depthOf(redis, queue)))) {
    const known = found.get(depth.queue)
    found.set(depth.queue, known ? joined(known, depth) : depth)
  }
  return [...found.values()]
}

async function depthOf(redis: Redis, queue: string): Promise<QueueDepth> {
  const base = `${BULL_PREFIX}:${queue}:`
  const keys = Object.values(LISTS).map((list) => base + list)
  const [sizes, added, now] = (await redis.eval(DEPTH, keys.length, ...keys, base)) as [number[], string, string]
  return {
    queue: labelOf(queue),
    jobs: eachState((_, at) => sizes[at] ?? 0),
    oldestWaitingSeconds: added === '' ? 0 : Math.max(0, Number(now) - Number(added) / 1_000),
  }
}

function joined(one: QueueDepth, other: QueueDepth): QueueDepth {
  return {
    queue: one.queue,
    jobs: eachState((state) => one.jobs[state] + other.jobs[state]),
    oldestWaitingSeconds: Math.max(one.oldestWaitingSeconds, other.oldestWaitingSeconds),
  }
}

function eachState(count: (state: State, at: number) => number): Record<State, number> {
  const states = Object.keys(LISTS) as State[]
  return Object.fromEntries(states.map((state, at) => [state, count(state, at)])) as Record<State, number>
}

/** Ids of nodes have no dots. */
function labelOf(queue: string): string {
  const [kind, node] = queue.split('.')
  return node === undefined ? queue : `${kind!}.node`
}
