import { randomUUID } from 'node:crypto'
import { asStrataError, Background, ERROR_TITLES, failpoint, inLogContext, Serial, StrataError } from '@strata/base'
import {
  DelayedError,
  UnrecoverableError,
  WaitingChildrenError as WaitingForChildren,
  WaitingError,
  Worker,
  type Job,
} from 'bullmq'
import type { Redis } from 'ioredis'
import { CONTRACTS, QUEUE_JOBS, type JobData, type JobName, type JobResult, type QueueKind } from './contracts.js'
import { decodeFailure, encodeFailure } from './failure.js'
import { LostRun, type JobLock, type Journal, type JournalChange } from '../journal.js'
import { BULL_PREFIX } from '../keys.js'
import { Producer, type NewJob, type ParentJob } from './producer.js'
import type { Signals } from '../signals.js'

/** How a handler ends that gives up its worker for its children. */

/**
 * Whether a handler that ends so has ended its run only, and not its job: it waits for its
 * children, it was put back (`again`, `giveBack`), or it has lost the job. Such an error is let
 * through: nothing is ended, answered or taken away for it.
 */
export function endsRunOnly(error: unknown): boolean {
  return [WaitingForChildren, DelayedError, WaitingError, LostRun].some((kind) => error instanceof kind)
}

/** What a handler gets beside its data. */
export interface JobContext {
  readonly id: string
  readonly queue: string
  /** The job that waits for this one, if one does. */
  readonly parent: ParentJob | undefined
  /** How many children this job has asked for in all its runs. */
  readonly asked: number
  /** This run follows one that gave up its worker for its children. */
  readonly resumed: boolean
  /**
   * This run's hold on the job: a change in Redis that is made with it fails once another run has
   * the job.
   */
  readonly lock: JobLock
  /**
   * Aborts when the request is cancelled or another part of it failed, with that as its reason; may
   * be aborted from the start: the handler then cleans up and throws the reason. Aborts with
   * `LostRun` when this run has lost the job: then nothing is cleaned up.
   */
  readonly signal: AbortSignal
  /**
   * Writes to the request's journal, unless this run has lost the job. The handler bounds the rate:
   * at most 5 a second.
   */
  progress(change: JournalChange): Promise<void>
  /**
   * To be asked before anything is ended that another run of the job would need: a request, an
   * upload, a claim. The signal alone is not enough, it aborts a moment later.
   * @throws LostRun
   */
  assertOwned(): Promise<void>
  /**
   * Gives up the worker, and has the handler run again from its start after a while: what it needs
   * is away. The pauses grow to 5 s. `hasGotOn`: this run has recorded what the next one need not
   * do again.
   * @throws DelayedError, which is to be let through; `reason` if the first time was a minute ago
   * (the minute of a job begins anew when it has got on, or has asked for children since); the
   * signal's reason in a run that is only to end the job
   */
  again(reason: StrataError, hasGotOn?: boolean): Promise<never>
  /**
   * Gives the job back to its queue, for a run from its start at once: this process ends. The same
   * process would take it again, unless its worker is being closed.
   * @throws WaitingError, which is to be let through; the signal's reason in a run that is only to
   * end the job
   */
  giveBack(): Promise<never>
  /**
   * Ends the request well now, for a handler that still has to clean up what a second run would
   * need: a crash after this leaves a request that is done, not one that cannot be done again.
   * Nothing where the job is a child. Returning does the same later.
   * @throws LostRun
   */
  complete(result: unknown): Promise<void>
  /**
   * The same where it ends badly: who waits for it hears of it before the cleaning up. Throwing
   * does the same later.
   * @throws LostRun
   */
  fail(error: unknown): Promise<void>
  /**
   * Adds children (ids fixed, so that a second run adds none again) and gives up the worker until
   * they have ended; the handler then runs again from its start: what it throws for that,
   * `WaitingForChildren`, is to be let through. Resolves when all of them have ended well; throws
   * the first failed child's own error otherwise, after the children that no worker had yet were
   * taken away and the others told to stop.
   */
  children(jobs: readonly NewJob<JobName>[]): Promise<void>
  /**
   * Adds children that are worked on while this run goes on; `children` waits for them later, and
   * is to be given them again. If this run fails before that, they are stopped. If one of them
   * fails, the others are stopped, and this run's signal aborts with its error.
   * @throws that error
   */
  startChildren(jobs: readonly NewJob<JobName>[]): Promise<void>
}
type Handler<N extends JobName> = (data: JobData<N>, context: JobContext) => Promise<JobResult<N>>
export type Handlers<K extends QueueKind> = { readonly [N in (typeof QUEUE_JOBS)[K][number]]: Handler<N> }

export interface WorkerOptions<K extends QueueKind> {
  readonly kind: K
  readonly queue: string
  readonly handlers: Handlers<K>
  readonly concurrency: number
  /**
   * Asked before each job: false gives the job back to its queue. Whoever answers so also calls
   * `pause`.
   */
  readonly mayWork?: () => Promise<boolean>
  /** Takes no jobs before `resume`. */
  readonly paused?: boolean
  /** Something failed that no caller will see: for the log. */
  readonly onError?: (error: Error) => void
}

/**
 * How a run of a job ended. `suspended`: the job will be run again, since it waits for its children
 * or was put back, or another worker has it.
 */
type RunOutcome = 'completed' | 'failed' | 'cancelled' | 'suspended'

/** Gets each run of a job in this process. */
export interface JobObserver {
  /** @param job a name of a contract, or `unknown` */
  started(job: JobName | 'unknown'): void
  ended(job: JobName | 'unknown', outcome: RunOutcome, seconds: number): void
}

/**
 * How the queue treats a worker that stops answering (docs/architecture.md, "Jobs"): the job of a
 * killed worker is taken up again within 9 s, so that all is right within 20 s on a busy machine
 * too (docs/failures.md). If the worker was only slow, an idempotent job runs twice.
 */
const STALLS = { lockDuration: 6_000, stalledInterval: 3_000, maxStalledCount: 10 }

/** Pauses of a job that is put back, and for how long in all. */
const AGAIN = { firstMs: 250, longestMs: 5_000, inAllMs: 60_000 }

/** How often a run that has started children looks whether one has failed. */
const LOOK_AT_CHILDREN_MS = 1_000

/** States of a job that no worker has, and that waits for nothing but a worker or a time. */
const NOT_TAKEN: ReadonlySet<string> = new Set(['waiting', 'prioritized', 'delayed'])

/** What the queue keeps in a job's data beside what its contract says. */
interface Kept {
  /** The children that were asked for. */
  readonly added?: readonly string[]
  /** How often it was put back since it last asked for children, and when the first time. */
  readonly again?: { readonly times: number; readonly since: number } | undefined
}

/**
 * Works a queue. Data and result are checked against the contract on this side too; a root job's
 * end is written to the journal; a job name of the queue without a handler stops the process at its
 * start instead of counting as done.
 */
export class JobWorker<K extends QueueKind> {
  readonly #worker: Worker
  readonly #producer: Producer
  /**
   * The runs in this process, by their jobs' ids. Two of one job: this process stood still for
   * longer than a lock, and took its own job up again.
   */
  readonly #runs = new Map<string, Set<AbortController>>()
  /** Children that a stop of their request has reached. */
  readonly #stopping = new WeakSet<Job>()
  readonly #stopListening: () => void
  readonly #endings = new Background()

  constructor(
    redis: Redis,
    private readonly journal: Journal,
    private readonly signals: Signals,
    private readonly options: WorkerOptions<K>,
    private readonly observer?: JobObserver,
  ) {
    const missing = QUEUE_JOBS[options.kind].filter((name) => !(name in options.handlers))
    if (missing.length > 0)
      throw new StrataError(
        'internal',
        `the worker of ${options.queue} has no handler for ${missing.join(', ')}: add one where the service makes its worker`,
      )
    this.#producer = new Producer(redis)
    this.#worker = new Worker(options.queue, (job, token) => this.#run(job, token ?? ''), {
      connection: redis,
      prefix: BULL_PREFIX,
      concurrency: options.concurrency,
      drainDelay: 5,
      autorun: options.paused !== true,
      ...STALLS,
    })
    this.#worker.on('error', (error) => options.onError?.(error))
    this.#worker.on('lockRenewalFailed', (ids: string[]) => ids.forEach((id) => this.#lose(id)))
    // A job that stalled too often is failed by the queue itself: its request must still end.
    this.#worker.on('failed', (job, error) => {
      if (job && error.message.includes('stalled more than'))
        void this.#fail(job, decodeFailure(error.message)).catch(() => undefined)
    })
    for (const event of ['completed', 'failed'] as const)
      this.#worker.on(event, (job?: Job) => {
        if (job && this.#stopping.delete(job)) this.#tellStopped(job)
      })
    this.#stopListening = signals.onCancelled((id) => this.#endWaiting(id))
  }

  get queue(): string {
    return this.options.queue
  }

  /** Takes no more jobs until `resume`; those under way go on. */
  async pause(): Promise<void> {
    await this.#worker.pause(true)
  }

  async resume(): Promise<void> {
    await this.#worker.resume()
  }

  async close(): Promise<void> {
    this.#stopListening()
    await this.#worker.close()
    await this.#endings.settled()
    await this.#producer.close()
  }

  async #run(job: Job, token: string): Promise<unknown> {
    // A worker that waits for jobs when it is paused may still be given one.
    if ((this.options.mayWork && !(await this.options.mayWork())) || (await this.#isTooEarly(job))) {
      await job.moveToWait(token)
      throw new WaitingError()
    }
    this.#lose(job.id ?? '')
    return await this.#work(job, { key: this.#lockKey(job), token }, true)
  }

  /**
   * Whether a job in the background (`Producer.addInBackground`) came before others that wait.
   * BullMQ puts a job whose worker died among those without a priority.
   */
  async #isTooEarly({ priority, stalledCounter }: Job): Promise<boolean> {
    if (priority === 0 || stalledCounter === 0) return false
    return (await this.#producer.queue(this.options.queue).getJobCounts('wait'))['wait'] !== 0
  }

  #lockKey(job: Job): string {
    return `${BULL_PREFIX}:${this.options.queue}:${job.id ?? ''}:lock`
  }

  /**
   * Has the handler do the job, and ends the request with what comes of it. `isTaken`: BullMQ gave
   * the job to this worker. Otherwise it waits in its queue, and is only to be ended.
   */
  #work(job: Job, lock: JobLock, isTaken: boolean): Promise<unknown> {
    const { root } = job.data as { root?: unknown }
    return inLogContext({ job: typeof root === 'string' ? root : (job.id ?? '') }, () =>
      this.#workInContext(job, lock, isTaken),
    )
  }

  async #workInContext(job: Job, lock: JobLock, isTaken: boolean): Promise<unknown> {
    const name = job.name as JobName
    const isKnown = (QUEUE_JOBS[this.options.kind] as readonly string[]).includes(name)
    const label = isKnown ? name : 'unknown'
    const begun = performance.now()
    let outcome: RunOutcome = 'completed'
    this.observer?.started(label)
    try {
      if (!isKnown)
        throw new StrataError('bad_request', `the queue ${this.options.queue} has no job ${JSON.stringify(job.name)}`)
      const parsed = CONTRACTS[name].data.safeParse(job.data)
      if (!parsed.success)
        throw new StrataError(
          'bad_request',
          `the job ${name} is not valid: ${parsed.error.issues[0]?.path.join('.') ?? ''}: ${parsed.error.issues[0]?.message ?? ''}`,
        )
      const result: unknown = CONTRACTS[name].result.parse(await this.#handle(name, job, lock, parsed.data, isTaken))
      if (CONTRACTS[name].endsRoot && !job.parent && 'root' in parsed.data)
        await this.journal.complete(parsed.data.root, result, lock)
      return result
    } catch (error) {
      outcome = outcomeOf(error)
      if (endsRunOnly(error)) throw error
      this.#logInternal(job, error)
      await this.#fail(job, error, lock)
      throw new UnrecoverableError(encodeFailure(error))
    } finally {
      this.observer?.ended(label, outcome, (performance.now() - begun) / 1_000)
    }
  }

  async #handle(name: JobName, job: Job, lock: JobLock, data: JobData<JobName>, isTaken: boolean): Promise<unknown> {
    const root = 'root' in data ? data.root : undefined
    const id = job.id ?? ''
    const kept = job.data as Kept
    const watch =
      root === undefined
        ? { controller: new AbortController(), done: () => undefined }
        : await this.signals.watchCancel(root)
    const { signal } = watch.controller
    this.#runs.set(id, (this.#runs.get(id) ?? new Set()).add(watch.controller))
    const adding = new Serial()
    /** `run`: this run or one before has started children, and this one has not waited for them. */
    const ahead: { run: boolean; looks?: NodeJS.Timeout } = { run: kept.added !== undefined }
    const look = (): void => {
      // It aborts the signal of all work of the request, this run's too.
      ahead.looks ??= setInterval(() => {
        this.#stopIfOneFailed(job).catch(() => undefined)
      }, LOOK_AT_CHILDREN_MS)
    }
    try {
      if (ahead.run) look()
      const context: JobContext = {
        id,
        queue: this.options.queue,
        asked: kept.added?.length ?? 0,
        resumed: kept.added !== undefined,
        lock,
        parent:
          job.parent?.id === undefined
            ? undefined
            : { id: job.parent.id, queue: job.parent.queueKey.slice(BULL_PREFIX.length + 1) },
        signal,
        progress: async (change) => {
          if (root !== undefined) await this.journal.update(root, change, lock)
        },
        assertOwned: async () => {
          if (!(await this.#producer.isHeld(lock))) throw new LostRun(`the job ${id}`)
        },
        again: (reason, hasGotOn = false) =>
          isTaken
            ? this.#again(job, lock, reason, hasGotOn, signal)
            : Promise.reject(asStrataError(signal.aborted ? signal.reason : reason)),
        giveBack: async () => {
          if (!isTaken) throw signal.reason
          await job.moveToWait(lock.token)
          throw new WaitingError()
        },
        complete: async (result) => {
          if (!job.parent && root !== undefined) await this.journal.complete(root, result, lock)
        },
        fail: (error) => this.#fail(job, error, lock),
        startChildren: (jobs) =>
          adding.run(async () => {
            signal.throwIfAborted()
            ahead.run = true
            look()
            await this.#add(job, jobs)
            const failed = await this.#stopIfOneFailed(job)
            if (failed) throw failed
          }),
        children: async (jobs) => {
          if (!isTaken) throw signal.reason
          try {
            await this.#children(job, lock.token, jobs, signal)
            ahead.run = false
          } catch (error) {
            // BullMQ's own words for a lost lock are a plain Error.
            if (!endsRunOnly(error)) await context.assertOwned()
            throw error
          }
        },
      }
      const handler = (
        this.options.handlers as unknown as Record<string, (data: unknown, context: JobContext) => Promise<unknown>>
      )[name]
      if (!handler) throw new StrataError('internal', `no handler for ${name}`)
      return await handler(data, context)
    } catch (error) {
      if (ahead.run && !endsRunOnly(error)) await this.#stopChildren(job, asStrataError(error))
      throw error
    } finally {
      clearInterval(ahead.looks)
      watch.done()
      if (job.parent && signal.aborted && !(signal.reason instanceof LostRun)) this.#stopping.add(job)
      this.#runs.get(id)?.delete(watch.controller)
      if (this.#runs.get(id)?.size === 0) this.#runs.delete(id)
    }
  }

  /** The runs of the job that this process has are no longer its runs. */
  #lose(id: string): void {
    for (const controller of this.#runs.get(id) ?? []) controller.abort(new LostRun(`the job ${id}`))
  }

  async #again(
    job: Job,
    lock: JobLock,
    reason: StrataError,
    hasGotOn: boolean,
    cancelled: AbortSignal,
  ): Promise<never> {
    const wasCancelled = cancelled.aborted
    const before = hasGotOn ? undefined : (job.data as Kept).again
    const { times, since } = before ?? { times: 0, since: Date.now() }
    if (Date.now() - since > AGAIN.inAllMs) throw reason
    await job.updateData({ ...(job.data as object), again: { times: times + 1, since } })
    await job.moveToDelayed(Date.now() + Math.min(AGAIN.firstMs * 2 ** times, AGAIN.longestMs), lock.token)
    // A cancel that came meanwhile found a job that was not waiting. A handler that puts back what
    // was cancelled before has its reason for that.
    if (cancelled.aborted && !wasCancelled) this.#endWaiting(job.id ?? '')
    throw new DelayedError()
  }

  /** Adds those that the job has not had yet. */
  async #add(job: Job, jobs: readonly NewJob<JobName>[]): Promise<void> {
    const known = (job.data as Kept).added ?? []
    const fresh = jobs.filter(({ id }) => !known.includes(id))
    for (const child of fresh) await this.#producer.add(child, { queue: this.options.queue, id: job.id ?? '' })
    if (fresh.length > 0)
      await job.updateData({
        ...(job.data as object),
        added: [...known, ...fresh.map(({ id }) => id)],
        // What it waited for came: if it waits once more, that is for something else.
        again: undefined,
      })
    if (fresh.length > 0) failpoint('load.children-added')
  }

  async #children(job: Job, token: string, jobs: readonly NewJob<JobName>[], cancelled: AbortSignal): Promise<void> {
    await this.#add(job, jobs)
    const failed = await this.#stopIfOneFailed(job)
    if (failed) throw failed
    const waits = await job.moveToWaitingChildren(token)
    // A cancel or a failure that came before this found nobody who waits to be woken: the siblings'
    // ends wake the parent then.
    if (waits && cancelled.aborted) this.#endWaiting(job.id ?? '')
    const failedMeanwhile = await this.#stopIfOneFailed(job)
    if (waits) throw new WaitingForChildren()
    if (failedMeanwhile) throw failedMeanwhile
  }

  /**
   * Where a child has failed: takes away its siblings that no worker has, tells the others to stop,
   * and gives the failure.
   */
  async #stopIfOneFailed(job: Job): Promise<StrataError | undefined> {
    const [reason] = Object.values(await job.getIgnoredChildrenFailures())
    if (reason === undefined) return undefined
    const failed = decodeFailure(reason)
    await this.#stopChildren(job, failed)
    return failed
  }

  async #stopChildren(job: Job, reason: StrataError): Promise<void> {
    const { root } = job.data as { root?: string }
    if (root !== undefined) await this.journal.stopWork(root, reason)
    await job.removeUnprocessedChildren()
  }

  /** A request is to stop: what its job waits for in this queue is not waited for. */
  #endWaiting(id: string): void {
    this.#endings.run(() =>
      this.#endIfWaiting(id).catch((error: unknown) => {
        if (endsRunOnly(error)) return
        this.options.onError?.(
          new Error(`stopping the request ${id}: ${asStrataError(error).message}`, { cause: error }),
        )
      }),
    )
  }

  /**
   * Ends the job of a request that is to stop and that no worker has. The children that no worker
   * has are removed. Then the job itself is ended at once, beside the slots of this queue, which
   * may be taken for long: its handler runs with an aborted signal, as it would in a slot. A job
   * with a parent is not ended so: the job at the top removes it.
   *
   * The handler runs under the job's lock. If a slot takes the job in the same moment, its run
   * takes the lock over, is told to stop too, and ends the job.
   */
  async #endIfWaiting(id: string): Promise<void> {
    const job = await this.#producer.queue(this.options.queue).getJob(id)
    if (!job) return
    if (await job.isWaitingChildren()) {
      await job.removeUnprocessedChildren()
      if (job.parent) this.#tellStopped(job)
    }
    if (job.parent || (this.options.mayWork && !(await this.options.mayWork()))) return
    const lock: JobLock = { key: this.#lockKey(job), token: randomUUID() }
    if (!(await this.#producer.takeLock(lock, STALLS.lockDuration))) return
    try {
      if (!NOT_TAKEN.has(await job.getState())) return
      await this.#work(job, lock, false)
    } catch (error) {
      // The job's own failure: its request has ended with it.
      if (!(error instanceof UnrecoverableError)) throw error
    } finally {
      await this.#producer.releaseLock(lock)
    }
    // A slot may have it by now, or a child of it is still stopping: then a run finds it ended.
    await job.remove().catch(() => undefined)
  }

  /**
   * A child has ended since its request is to stop: its parent may wait in its queue since then.
   */
  #tellStopped(job: Job): void {
    const { root } = job.data as { root?: unknown }
    if (typeof root === 'string')
      this.#producer.tellIfStopped(root).catch((error: unknown) => this.options.onError?.(asStrataError(error)))
  }

  /** Without a lock where the queue itself has ended the job. */
  async #fail(job: Job, error: unknown, lock?: JobLock): Promise<void> {
    const { root } = job.data as { root?: unknown }
    if (!job.parent && typeof root === 'string') await this.journal.fail(root, error, lock)
  }

  /**
   * Redis and the caller are told nothing of the inside, so this is where it is said. Not of a
   * child's error: its own worker has said it.
   */
  #logInternal(job: Job, thrown: unknown): void {
    const error = asStrataError(thrown)
    if (error.code !== 'internal' || error.message === ERROR_TITLES.internal) return
    const { root } = job.data as { root?: unknown }
    const whose = typeof root === 'string' ? `the request ${root}` : `the job ${job.id ?? ''}`
    this.options.onError?.(new Error(`${job.name} of ${whose} failed inside: ${internals(error)}`, { cause: thrown }))
  }
}

function outcomeOf(error: unknown): RunOutcome {
  if (endsRunOnly(error)) return 'suspended'
  return asStrataError(error).code === 'cancelled' ? 'cancelled' : 'failed'
}

/**
 * Where an error came from, in the words of the first cause. Of a confidential one the places
 * alone: each message may quote what no log is to hold.
 */
function internals(error: StrataError): string {
  let first: Error = error
  while (first.cause instanceof Error) first = first.cause
  const stack = first.stack ?? ''
  if (!error.confidential) return stack || error.message
  const title = `${first.name}: ${first.message}`
  return `its words are not logged${stack.startsWith(title) ? stack.slice(title.length) : ''}`
}
