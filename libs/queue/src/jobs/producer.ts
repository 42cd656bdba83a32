import { setTimeout as delay } from 'node:timers/promises'
import { StrataError } from '@strata/base'
import { FlowProducer, Queue, type JobsOptions } from 'bullmq'
import type { Redis } from 'ioredis'
import { orUnavailable } from '../connection.js'
import { CONTRACTS, parseResult, type JobData, type JobName, type JobResult } from './contracts.js'
import { decodeFailure } from './failure.js'
import type { JobLock } from '../journal.js'
import { BULL_PREFIX, CHANNEL, KEY } from '../keys.js'

/**
 * A child or a job by itself: `id` is fixed by the caller, so that adding it twice adds one. Ids
 * hold no colon.
 */
export interface NewJob<N extends JobName> {
  readonly name: N
  readonly queue: string
  readonly id: string
  readonly data: JobData<N>
}
/** The job that waits for another. */
export interface ParentJob {
  readonly queue: string
  readonly id: string
}

const DAY = 24 * 3600
/**
 * A failing child wakes its parent at once, which then stops the siblings and ends with the child's
 * own reason.
 */
const CHILD = { continueParentOnFailure: true } satisfies JobsOptions
/**
 * Of each queue. What a request came to is in the journal, for a day; a job that has ended is only
 * wanted by who asked for it, a moment later, so that Redis does not grow with what is past. By age
 * alone a busy queue would keep thousands, by number alone one of few jobs would fill for weeks.
 * Failures are few, and tell more.
 */
const KEEP = {
  attempts: 1,
  removeOnComplete: { age: 120, count: 150 },
  removeOnFail: { age: DAY, count: 1_000 },
} satisfies JobsOptions
/** BullMQ takes jobs without a priority before any that has one. */
const BACKGROUND = 1
/** BullMQ's own stream of events, which none of us reads: its default is 10,000 a queue. */
const STREAMS = { events: { maxLen: 500 } }

const RELEASE_LOCK = `if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1`
const TELL_IF_STOPPED = `
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('PUBLISH', '${CHANNEL.cancelled}', ARGV[1]) end
return 1`

function checked<N extends JobName>(job: NewJob<N>): NewJob<N> {
  const result = CONTRACTS[job.name].data.safeParse(job.data)
  if (result.success) return job
  throw new StrataError(
    'bad_request',
    `the job ${job.name} is not valid: ${result.error.issues[0]?.path.join('.') ?? ''}: ${result.error.issues[0]?.message ?? ''}`,
  )
}

/** Adds jobs. Commands fail with `queue_unavailable` while Redis is away, never hang. */
export class Producer {
  readonly #queues = new Map<string, Queue>()
  readonly #flows: FlowProducer

  constructor(private readonly redis: Redis) {
    this.#flows = new FlowProducer({ connection: redis, prefix: BULL_PREFIX })
    this.#flows.on('error', () => undefined)
  }

  queue(name: string): Queue {
    let queue = this.#queues.get(name)
    if (!queue) {
      queue = new Queue(name, {
        connection: this.redis,
        prefix: BULL_PREFIX,
        defaultJobOptions: KEEP,
        streams: STREAMS,
      })
      queue.on('error', () => undefined)
      this.#queues.set(name, queue)
    }
    return queue
  }

  async add<N extends JobName>(job: NewJob<N>, parent?: ParentJob): Promise<void> {
    const { name, data, id } = checked(job)
    await this.#ready()
    const options = parent
      ? { jobId: id, ...CHILD, parent: { id: parent.id, queue: `${BULL_PREFIX}:${parent.queue}` } }
      : { jobId: id }
    await orUnavailable(this.queue(job.queue).add(name, data, options))
    if (!parent && 'root' in data) await this.tellIfStopped(data.root)
  }

  /**
   * Adds jobs that nobody waits for, to one queue; gives how many were added.
   *
   * - A worker takes such a job only if no other job waits in the queue.
   * - The job leaves nothing when it has ended, also if it failed: then its id is free again. A job
   *   whose id waits or is under way is not added once more.
   * - At most `most` of them wait. Those that do not fit are dropped.
   */
  async addInBackground<N extends JobName>(queue: string, jobs: readonly NewJob<N>[], most: number): Promise<number> {
    if (jobs.length === 0) return 0
    jobs.forEach(checked)
    await this.#ready()
    const { prioritized = 0 } = await orUnavailable(this.queue(queue).getJobCounts('prioritized'))
    const fitting = jobs.slice(0, Math.max(0, most - prioritized))
    const opts = { priority: BACKGROUND, removeOnComplete: true, removeOnFail: true }
    await orUnavailable(
      this.queue(queue).addBulk(fitting.map(({ name, data, id }) => ({ name, data, opts: { ...opts, jobId: id } }))),
    )
    return fitting.length
  }

  /** A job that starts when its children have ended, all well or one badly. Added as one. */
  async addFlow<N extends JobName, C extends JobName>(
    job: NewJob<N>,
    children: readonly NewJob<C>[],
    parent?: ParentJob,
  ): Promise<void> {
    if (children.length === 0) return this.add(job, parent)
    checked(job)
    await this.#ready()
    // A flow that is the first to use a queue gives it BullMQ's own length of events, unless the
    // queue says another.
    for (const { queue } of [job, ...children]) this.queue(queue)
    const ownParent = parent ? { ...CHILD, parent: { id: parent.id, queue: `${BULL_PREFIX}:${parent.queue}` } } : {}
    await orUnavailable(
      this.#flows.add({
        name: job.name,
        queueName: job.queue,
        data: job.data,
        opts: { jobId: job.id, ...KEEP, ...ownParent },
        children: children.map(checked).map((child) => ({
          name: child.name,
          queueName: child.queue,
          data: child.data,
          opts: { jobId: child.id, ...KEEP, ...CHILD },
        })),
      }),
    )
    if (!parent && 'root' in job.data) await this.tellIfStopped(job.data.root)
  }

  /** Adds `job` again and again, every `milliseconds`; one schedule however many ask. */
  async schedule<N extends JobName>(job: NewJob<N>, milliseconds: number): Promise<void> {
    const { name, data, id } = checked(job)
    await this.queue(job.queue).upsertJobScheduler(
      id,
      { every: milliseconds },
      { name, data, opts: { ...KEEP, removeOnComplete: true } },
    )
  }

  /** Whether there is such a schedule: Redis may have lost it. */
  async isScheduled({ queue, id }: ParentJob): Promise<boolean> {
    return (await orUnavailable(this.queue(queue).getJobScheduler(id))) !== undefined
  }

  /** Ends that schedule, if there is one. */
  async unschedule({ queue, id }: ParentJob): Promise<void> {
    await this.queue(queue).removeJobScheduler(id)
  }

  async has(job: ParentJob): Promise<boolean> {
    return (await orUnavailable(this.queue(job.queue).getJob(job.id))) !== undefined
  }

  /**
   * The job's result once it has ended, wherever it is worked; its own failure if it failed.
   * @throws StrataError `queue_unavailable` if the job is not known (any more), and the signal's
   * reason
   */
  async result<N extends JobName>({ name, queue, id }: NewJob<N>, signal: AbortSignal): Promise<JobResult<N>> {
    for (let wait = 20; ; wait = Math.min(wait * 2, 250)) {
      signal.throwIfAborted()
      const job = await orUnavailable(this.queue(queue).getJob(id))
      if (!job) throw new StrataError('queue_unavailable', `Redis has lost the job ${name}`)
      if (job.finishedOn !== undefined) {
        if (job.failedReason) throw decodeFailure(job.failedReason)
        return parseResult(name, job.returnvalue)
      }
      await delay(wait, undefined, { signal }).catch(() => signal.throwIfAborted())
    }
  }

  /** Takes a job away that no worker has yet; nothing if it is gone or under way. */
  async withdraw({ queue, id }: ParentJob): Promise<void> {
    await this.queue(queue).remove(id)
  }

  /** How many jobs of this name wait in the queue or are under way. */
  async pending(name: JobName, queue: string): Promise<number> {
    const jobs = await orUnavailable(this.queue(queue).getJobs(['active', 'waiting', 'waiting-children']))
    return jobs.filter((job) => job.name === name).length
  }

  /** How many jobs of the queue have not ended. */
  async unfinished(queue: string): Promise<number> {
    const counts = await orUnavailable(
      this.queue(queue).getJobCounts('active', 'waiting', 'waiting-children', 'delayed', 'prioritized'),
    )
    return Object.values(counts).reduce((sum, count) => sum + count, 0)
  }

  /**
   * Takes a queue away that nobody works or adds to any more, with what it remembers of jobs that
   * have ended.
   */
  async removeQueue(name: string): Promise<void> {
    await this.queue(name).obliterate({ force: true })
    await this.#queues.get(name)?.close()
    this.#queues.delete(name)
  }

  /** Takes the lock of a job that no run has, for so long; false if one has it. */
  async takeLock({ key, token }: JobLock, milliseconds: number): Promise<boolean> {
    return (await orUnavailable(this.redis.set(key, token, 'PX', milliseconds, 'NX'))) === 'OK'
  }

  async releaseLock({ key, token }: JobLock): Promise<void> {
    await orUnavailable(this.redis.eval(RELEASE_LOCK, 1, key, token))
  }

  /**
   * Tells all workers once more of a request that is to stop, if it is: one of its jobs has come
   * into a queue since they were told.
   */
  async tellIfStopped(request: string): Promise<void> {
    await orUnavailable(this.redis.eval(TELL_IF_STOPPED, 1, KEY.cancel(request), request))
  }

  /** Whether the job's lock is still that run's. */
  async isHeld({ key, token }: JobLock): Promise<boolean> {
    return (await orUnavailable(this.redis.get(key))) === token
  }

  /**
   * Whether nobody works on it any more, if it is known at all. It may have failed by its worker's
   * word, or because its workers died too often.
   */
  async isOver(job: ParentJob): Promise<boolean> {
    const state = await orUnavailable(this.queue(job.queue).getJobState(job.id))
    return state === 'failed' || state === 'completed'
  }

  /** BullMQ waits for a first connection however long; a request must not. */
  async #ready(): Promise<void> {
    await orUnavailable(this.redis.ping())
  }

  async close(): Promise<void> {
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()))
    await this.#flows.close()
  }
}
