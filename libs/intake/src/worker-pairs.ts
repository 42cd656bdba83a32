import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { StrataError } from '@strata/oci'
import type { Answer, FileJob, Job, LayerIndexed, Role, WorkerData } from './messages.js'
import { createRing } from './ring.js'

/** Compiled files only: Node's threads take no TypeScript in packages, so sources run by a test use the build's. */
const WORKER = new URL(import.meta.url.endsWith('.ts') ? '../dist/worker.js' : './worker.js', import.meta.url)

/** Both threads (the hasher alone, where the writing is another's) and their ring. Warm ones are kept: starting two threads takes longer than a small archive. */
export class WorkerPair {
  readonly ring = createRing()
  private readonly workers: Worker[]
  isBroken = false

  constructor(roles: readonly Role[] = ['writer', 'hasher']) {
    this.workers = roles.map((role) => {
      const worker = new Worker(WORKER, {
        workerData: { role, ring: this.ring } satisfies WorkerData,
        name: `intake ${role}`,
        // What the main thread was started with (a test's loader, an inspector) is nothing for these.
        execArgv: [],
        // Views of the ring are all the garbage they make; by default that is let grow to 48 MB a thread before it is looked at.
        resourceLimits: { maxYoungGenerationSizeMb: 4 },
      })
      worker.on('error', () => (this.isBroken = true)).on('exit', () => (this.isBroken = true))
      worker.unref()
      return worker
    })
  }

  /** Starts the job and resolves with the answers. A thread that dies answers `failed`; `early` is told each answer as it comes. */
  async run(job: Job | FileJob, onIndex: (index: LayerIndexed) => void, early: (answer: Answer) => void): Promise<Answer[]> {
    return Promise.all(this.workers.map((worker) => this.ask(worker, job, onIndex).then((answer) => (early(answer), answer))))
  }

  /** A job for one thread, always the same. */
  lead(job: FileJob): Promise<Answer> {
    return this.ask(this.workers[0]!, job, () => undefined)
  }

  private ask(worker: Worker, job: Job | FileJob, onIndex: (index: LayerIndexed) => void): Promise<Answer> {
    return new Promise((resolve) => {
      const settle = (answer: Answer): void => {
        // Every listener goes: one left behind would keep this job's indexes for as long as the thread lives.
        worker.off('message', onMessage).off('error', onError).off('exit', onExit)
        worker.unref()
        resolve(answer)
      }
      const onMessage = (message: Answer | LayerIndexed): void => (message.kind === 'index' ? onIndex(message) : settle(message))
      const onError = (error: Error): void => settle({ kind: 'failed', code: 'internal', message: `an intake worker failed: ${error.message}` })
      const onExit = (): void => settle({ kind: 'failed', code: 'internal', message: 'an intake worker ended' })
      if (this.isBroken) return settle({ kind: 'failed', code: 'internal', message: 'an intake worker ended' })
      worker.ref()
      worker.on('message', onMessage).once('error', onError).once('exit', onExit)
      worker.postMessage(job)
    })
  }

  async end(): Promise<void> {
    this.isBroken = true
    await Promise.all(this.workers.map((worker) => worker.terminate()))
  }
}

/** At most `limit` pairs at once; who comes later waits for one, in order. One idle pair is there from the start and stays: two threads take longer to start than a small archive takes to come. */
export class WorkerPairs {
  private readonly busy = new Set<WorkerPair>()
  private idle: WorkerPair | undefined
  private readonly waiting: (() => void)[] = []
  private isClosed = false

  constructor(private readonly limit: number, private readonly roles?: readonly Role[]) {
    this.idle = new WorkerPair(roles)
  }

  async acquire(stop: AbortSignal): Promise<WorkerPair> {
    stop.throwIfAborted()
    while (this.busy.size >= this.limit) await this.turn(stop)
    if (this.isClosed) throw new StrataError('cancelled', 'the service is stopping')
    const { idle } = this
    this.idle = undefined
    if (idle?.isBroken === false) {
      this.busy.add(idle)
      return idle
    }
    const pair = new WorkerPair(this.roles)
    this.busy.add(pair)
    await idle?.end() // one of its threads died; the other goes as well
    return pair
  }

  async release(pair: WorkerPair): Promise<void> {
    this.busy.delete(pair)
    const isKept = !this.isClosed && !pair.isBroken && this.idle === undefined
    if (isKept) this.idle = pair
    this.waiting.shift()?.()
    if (!isKept) await pair.end()
  }

  /** Ends the threads. Jobs under way are to be aborted and awaited before. */
  async close(): Promise<void> {
    this.isClosed = true
    for (const wake of this.waiting.splice(0)) wake()
    const pairs = [...this.busy, ...(this.idle ? [this.idle] : [])]
    this.idle = undefined
    await Promise.all(pairs.map((pair) => pair.end()))
  }

  private async turn(stop: AbortSignal): Promise<void> {
    const woken = new AbortController()
    const wake = (): void => woken.abort()
    this.waiting.push(wake)
    const either = AbortSignal.any([stop, woken.signal])
    if (!either.aborted) await once(either, 'abort')
    if (!stop.aborted) return
    const at = this.waiting.indexOf(wake)
    // Woken and stopped at once: the turn is the next one's.
    if (at < 0) this.waiting.shift()?.()
    else this.waiting.splice(at, 1)
    throw stop.reason
  }
}
