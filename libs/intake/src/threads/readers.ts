import { Worker } from 'node:worker_threads'
import type { IndexMemory } from '@strata/layers'
import { StrataError } from '@strata/base'
import type { Answer, Answered, Drop, FileJob, Job, LayerIndexed, Role, WorkerData } from './messages.js'
import { createRing } from './ring.js'

/**
 * Compiled files only: Node's threads take no TypeScript in packages, so sources run by a test use
 * the build's.
 */
const WORKER = new URL(import.meta.url.endsWith('.ts') ? '../../dist/worker.js' : '../worker.js', import.meta.url)

/**
 * A pair of which a thread has more bytes than this is ended when nobody uses it: an idle thread
 * collects no garbage, so it would keep what its largest upload took.
 */
const MAX_IDLE_BYTES = 64 * 1024 * 1024

/**
 * Both threads (the hasher alone, where the writing is another's) and their ring. Warm ones are
 * kept: starting two threads takes longer than a small archive.
 */
export class WorkerPair {
  readonly ring = createRing()
  readonly #workers: Worker[]
  /** Bytes that each thread had when it answered last. */
  readonly #held = new Map<Worker, number>()
  isBroken = false

  constructor(memory: IndexMemory, roles: readonly Role[] = ['writer', 'hasher']) {
    this.#workers = roles.map((role) => {
      const lease = memory.uploads()
      const worker = new Worker(WORKER, {
        workerData: { role, ring: this.ring, memory: lease.shared } satisfies WorkerData,
        name: `intake ${role}`,
        // What the main thread was started with (a test's loader, an inspector) is nothing for
        // these.
        execArgv: [],
        // Views of the ring are all the garbage they make; by default that is let grow to 48 MB a
        // thread before it is looked at.
        resourceLimits: { maxYoungGenerationSizeMb: 4 },
      })
      worker.on('error', () => (this.isBroken = true))
      worker.on('exit', () => {
        this.isBroken = true
        lease[Symbol.dispose]()
      })
      worker.unref()
      return worker
    })
  }

  /** Whether a thread has too much to be kept idle. */
  get isFull(): boolean {
    return [...this.#held.values()].some((bytes) => bytes > MAX_IDLE_BYTES)
  }

  /**
   * Starts the job and resolves with the answers. A thread that dies answers `failed`; `early` is
   * told each answer as it comes.
   */
  async run(
    job: Job | FileJob,
    onIndex: (index: LayerIndexed) => void,
    early: (answer: Answer) => void,
  ): Promise<Answer[]> {
    return Promise.all(
      this.#workers.map((worker) => this.#ask(worker, job, onIndex).then((answer) => (early(answer), answer))),
    )
  }

  /**
   * Nothing of the upload is kept. Comes into effect when the threads have done what they were told
   * before.
   */
  drop(session: number): void {
    for (const worker of this.#workers) worker.postMessage({ kind: 'drop', session } satisfies Drop)
  }

  /** A job for one thread, always the same. */
  lead(job: FileJob): Promise<Answer> {
    return this.#ask(this.#workers[0]!, job, () => undefined)
  }

  #ask(worker: Worker, job: Job | FileJob, onIndex: (index: LayerIndexed) => void): Promise<Answer> {
    return new Promise((resolve) => {
      const settle = (answer: Answer): void => {
        // Every listener goes: one left behind would keep this job's indexes for as long as the
        // thread lives.
        worker.off('message', onMessage).off('error', onError).off('exit', onExit)
        worker.unref()
        resolve(answer)
      }
      const onMessage = (message: Answered | LayerIndexed): void => {
        if (message.kind === 'index') return onIndex(message)
        this.#held.set(worker, message.held)
        settle(message.answer)
      }
      const onError = (error: Error): void =>
        settle({ kind: 'failed', code: 'internal', message: `an intake worker failed: ${error.message}` })
      const onExit = (): void => settle({ kind: 'failed', code: 'internal', message: 'an intake worker ended' })
      if (this.isBroken) return settle({ kind: 'failed', code: 'internal', message: 'an intake worker ended' })
      worker.ref()
      worker.on('message', onMessage).once('error', onError).once('exit', onExit)
      worker.postMessage(job)
    })
  }

  async end(): Promise<void> {
    this.isBroken = true
    await Promise.all(this.#workers.map((worker) => worker.terminate()))
  }
}

/**
 * `upload`: a body that a client sends; several share a pair by turns. `file`: a file of this
 * machine, which has a pair to itself from its first turn until it is closed.
 */
export type Lane = 'upload' | 'file'

/** A pair, and who has something in its threads. */
interface Seat {
  readonly pair: WorkerPair
  readonly sessions: Set<ReaderSession>
  lane: Lane
  isBusy: boolean
}

interface Waiter {
  readonly session: ReaderSession
  readonly seated: (seat: Seat) => void
  readonly failed: (error: unknown) => void
}

/** How long an upload waits before anybody is told. */
const WORTH_TELLING_MS = 1_000

/**
 * The pairs of reading threads: at most `uploads` for bodies that clients send, and one more that
 * only files get, so that no client can keep a local file waiting.
 *
 *     const session = readers.open('upload')
 *     await session.turn(stop, tell, (pair) => pair.run(…))     // as often as bytes are there
 *     session.close()
 *
 * An upload has no pair between its turns, but the threads of the pair that it had first keep what
 * they have read of it; so it waits for the same one again. Who waited longest is next. One idle
 * pair is there from the start and stays: two threads take longer to start than a small archive
 * takes to come.
 */
export class Readers {
  readonly #seats = new Set<Seat>()
  readonly #waiting: Waiter[] = []
  #sessions = 0
  #isClosed = false

  constructor(
    private readonly uploads: number,
    readonly memory: IndexMemory,
    private readonly roles?: readonly Role[],
  ) {
    this.#addSeat('upload')
  }

  open(lane: Lane): ReaderSession {
    return new ReaderSession(this, ++this.#sessions, lane)
  }

  /** How many pairs are at work. */
  get busy(): number {
    return [...this.#seats].filter(({ isBusy }) => isBusy).length
  }

  /** Of the session's own; rejects with `stop`'s reason, or `cancelled` when the service stops. */
  async acquire(session: ReaderSession, stop: AbortSignal): Promise<Seat> {
    stop.throwIfAborted()
    this.#throwIfClosed()
    const free = this.#freeSeat(session)
    if (free) return this.#take(free, session)
    const { promise, resolve, reject } = Promise.withResolvers<Seat>()
    const waiter: Waiter = { session, seated: resolve, failed: reject }
    this.#waiting.push(waiter)
    const onStop = (): void => {
      const at = this.#waiting.indexOf(waiter)
      if (at < 0) return
      this.#waiting.splice(at, 1)
      reject(stop.reason instanceof Error ? stop.reason : new Error(String(stop.reason)))
    }
    stop.addEventListener('abort', onStop)
    try {
      return await promise
    } finally {
      stop.removeEventListener('abort', onStop)
    }
  }

  release(seat: Seat): void {
    seat.isBusy = false
    this.#serve()
  }

  /** Whether somebody waits who could have the seat. */
  isWanted(seat: Seat): boolean {
    return this.#waiting.some(
      ({ session }) =>
        session.seat === seat || (session.seat === undefined && session.lane === seat.lane && seat.lane === 'upload'),
    )
  }

  leave(session: ReaderSession, seat: Seat): void {
    seat.sessions.delete(session)
    if (!seat.pair.isBroken) seat.pair.drop(session.id)
    this.#tidy()
    this.#serve()
  }

  /** Ends the threads. Jobs under way are to be aborted and awaited before. */
  async close(): Promise<void> {
    this.#isClosed = true
    for (const { failed } of this.#waiting.splice(0)) failed(stopping())
    const seats = [...this.#seats]
    this.#seats.clear()
    await Promise.all(seats.map(({ pair }) => pair.end()))
  }

  #throwIfClosed(): void {
    if (this.#isClosed) throw stopping()
  }

  #serve(): void {
    for (const waiter of [...this.#waiting]) {
      const seat = this.#freeSeat(waiter.session)
      if (!seat) continue
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1)
      waiter.seated(this.#take(seat, waiter.session))
    }
  }

  #take(seat: Seat, session: ReaderSession): Seat {
    if (seat.sessions.size === 0) seat.lane = session.lane
    seat.sessions.add(session)
    session.seat = seat
    seat.isBusy = true
    return seat
  }

  /**
   * A seat that the session may have now. A pair whose thread died is its sessions' until they have
   * been told.
   */
  #freeSeat({ seat, lane }: ReaderSession): Seat | undefined {
    if (seat) return seat.isBusy ? undefined : seat
    this.#tidy()
    const seats = [...this.#seats]
    const usedByUploads = seats.filter((each) => each.lane === 'upload' && each.sessions.size > 0).length
    const mayHaveMore = lane === 'file' || usedByUploads < this.uploads
    const free = seats.filter(({ isBusy, pair }) => !isBusy && !pair.isBroken)
    const empty = mayHaveMore ? free.find(({ sessions }) => sessions.size === 0) : undefined
    if (empty) return empty
    const shared = lane === 'upload' ? free.filter((each) => each.lane === 'upload' && each.sessions.size > 0) : []
    if (shared.length > 0) return shared.reduce((best, each) => (each.sessions.size < best.sessions.size ? each : best))
    return mayHaveMore && seats.length <= this.uploads ? this.#addSeat(lane) : undefined
  }

  #addSeat(lane: Lane): Seat {
    const seat: Seat = { pair: new WorkerPair(this.memory, this.roles), sessions: new Set(), lane, isBusy: false }
    this.#seats.add(seat)
    return seat
  }

  /**
   * Of the pairs that nobody uses one is kept; a new one takes the place of one that has too much
   * memory.
   */
  #tidy(): void {
    const unused = [...this.#seats].filter(({ sessions, isBusy }) => sessions.size === 0 && !isBusy)
    const kept = unused.find(({ pair }) => !pair.isBroken && !pair.isFull)
    for (const seat of unused) {
      if (seat === kept) continue
      this.#seats.delete(seat)
      void seat.pair.end()
    }
    if (!kept && unused.some(({ pair }) => pair.isFull)) this.#addSeat('upload')
  }
}

/** One archive's use of the readers. */
export class ReaderSession {
  seat: Seat | undefined

  constructor(
    private readonly readers: Readers,
    readonly id: number,
    readonly lane: Lane,
  ) {}

  /**
   * Does the work with a pair of its own meanwhile, which must be done with the pair when it
   * settles. `tell` is told what is waited for where that takes long, and `undefined` when it is
   * over.
   */
  async turn<T>(
    stop: AbortSignal,
    tell: (step: string | undefined) => void,
    work: (pair: WorkerPair) => Promise<T>,
  ): Promise<T> {
    const waiting = { isTold: false }
    const timer = setTimeout(() => {
      waiting.isTold = true
      tell(waitingStep(this.readers.busy))
    }, WORTH_TELLING_MS)
    const seat = await this.readers.acquire(this, stop).finally(() => clearTimeout(timer))
    if (waiting.isTold) tell(undefined)
    try {
      if (seat.pair.isBroken) throw new StrataError('internal', 'an intake worker ended')
      return await work(seat.pair)
    } finally {
      this.readers.release(seat)
    }
  }

  /** Whether somebody waits for the pair that this one has. */
  get isWanted(): boolean {
    return this.seat !== undefined && this.readers.isWanted(this.seat)
  }

  /** Outside of turns. Nothing is kept. */
  close(): void {
    const { seat } = this
    this.seat = undefined
    if (seat) this.readers.leave(this, seat)
  }
}

function waitingStep(busy: number): string {
  return `waiting for a reader: ${busy === 1 ? '1 upload is' : `${busy} uploads are`} being read`
}

function stopping(): StrataError {
  return new StrataError('cancelled', 'the service is stopping')
}
