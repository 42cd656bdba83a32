import { orAborted, Serial, StrataError } from '@strata/base'
import type { ContainerExit, ContainerRecord, ContainerState } from '../container.js'
import type { ContainerLog } from '../log/container-log.js'
import type { Monitor } from '../runtime/monitor.js'

/**
 * A container in memory: its record, who waits for it, and a queue through which all that changes
 * it goes, one at a time.
 */
export class Entry {
  monitor: Monitor | undefined
  /** It was removed; its id is not in the registry any more. */
  removed = false
  /** Open `wait`s and `logs`. */
  holders = 0
  /**
   * Why its last launch failed, if that was in this process: the record keeps code and sentence
   * only.
   */
  failure: StrataError | undefined
  /** Somebody was told how it ended. */
  collected = false
  /** Its foreground reader has come. */
  attended = false
  readonly #listeners = new Set<() => void>()
  readonly #changes = new Serial()
  /** Works of `alone` that have not settled. */
  #works = 0
  /** Requests of starts that have not come to their end, and whether a stop has ended them. */
  readonly #requests = new Map<string, { isStopped: boolean }>()
  /** What was noted of the start before the last one. */
  #before: Pick<Entry, 'failure' | 'collected' | 'attended'> | undefined

  constructor(
    public record: ContainerRecord,
    readonly log: ContainerLog,
  ) {}

  get state(): ContainerState {
    return this.record.state
  }

  get ended(): boolean {
    return this.removed || this.state.status === 'exited'
  }

  /**
   * The number of the start that a request of this moment is about: the start that is under way,
   * else the last one, or the first one if there was none.
   */
  get presentStart(): number {
    const { idle, starts } = this.record
    return idle ? idle.starts + 1 : Math.max(starts, 1)
  }

  /**
   * Whether nothing more will come of the start `number`: its process has ended, a later start is
   * under way, or the start was withdrawn from a container that has exited.
   */
  hasEnded(number: number): boolean {
    const { starts, state, idle } = this.record
    if (this.removed || starts > number) return true
    return state.status === 'exited' && (starts === number || !idle)
  }

  /**
   * Whether the start `number`, which was under way, was withdrawn. To be asked at a change: a next
   * request may begin the same start again.
   */
  isWithdrawn(number: number): boolean {
    return (this.removed || !this.record.idle) && this.record.starts < number
  }

  /** It is started once more: what was noted of the start before does not count. */
  begin(): void {
    const { failure, collected, attended } = this
    this.#before = { failure, collected, attended }
    this.failure = undefined
    this.collected = false
    this.attended = false
  }

  /** The start of the last `begin` was withdrawn: what was noted before counts again. */
  takeBack(): void {
    Object.assign(this, this.#before)
    this.#before = undefined
  }

  /**
   * The request `job` comes for a start that has no process yet, for the first time or again.
   * @throws StrataError `cancelled` if a stop came since its first time
   */
  request(job: string): void {
    if (this.#requests.get(job)?.isStopped)
      throw new StrataError('cancelled', `container ${this.record.id.slice(0, 12)} was stopped before the start`)
    this.#requests.set(job, { isStopped: false })
  }

  /** Nothing more comes of the request `job`. */
  forgetRequest(job: string): void {
    this.#requests.delete(job)
  }

  /** All requests that have come so far start nothing any more. */
  stopRequests(): void {
    for (const request of this.#requests.values()) request.isStopped = true
  }

  /** Runs `work` when all that was asked for before has ended. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    this.#works++
    return this.#changes.run(work).finally(() => this.#works--)
  }

  /** Whether no work of `alone` is under way; waits for that until `signal` aborts. */
  async isFree(signal: AbortSignal): Promise<boolean> {
    while (this.#works > 0 && !signal.aborted) await orAborted(this.#changes.settled(), signal).catch(() => undefined)
    return this.#works === 0
  }

  /** Calls after each change of the record. Answers how to stop it. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /**
   * How the present start ended, once it has: `undefined` when aborted before. If the start is
   * withdrawn, the end that the container has again.
   * @throws StrataError `cancelled` if it is withdrawn from a container that never ran;
   * `container_not_found` if the container is removed
   */
  async exit(signal?: AbortSignal, start = this.presentStart): Promise<ContainerExit | undefined> {
    let end: ContainerExit | 'withdrawn' | undefined
    // Who comes before any start waits for the first that runs.
    const isUnderWay = this.record.idle !== undefined
    await this.#changed(() => {
      // At each change, not after it: a next start may begin right behind the end of this one.
      const { state } = this
      if (this.hasEnded(start) && state.status === 'exited') end = exitOf(state)
      if (isUnderWay && !this.removed && state.status === 'created' && this.isWithdrawn(start)) end = 'withdrawn'
      return end !== undefined || this.removed
    }, signal)
    if (end === 'withdrawn')
      throw new StrataError('cancelled', `the start of container ${this.record.id.slice(0, 12)} was cancelled`)
    if (!end && this.removed) throw notFound(this.record.id)
    return end
  }

  /**
   * Resolves when no start is under way that may still be withdrawn. Until then nothing is written
   * to the log. Also resolves if the container is removed, or `signal` aborts.
   */
  async settled(signal?: AbortSignal): Promise<void> {
    await this.#changed(() => this.removed || !this.record.idle, signal)
  }

  /** Asks `isDone` now and at each change, until it says so or `signal` aborts. */
  async #changed(isDone: () => boolean, signal?: AbortSignal): Promise<void> {
    if (isDone() || signal?.aborted) return
    await new Promise<void>((resolve) => {
      const done = (): void => {
        stop()
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const stop = this.onChange(() => {
        if (isDone()) done()
      })
      signal?.addEventListener('abort', done)
    })
  }

  changed(): void {
    for (const listener of [...this.#listeners]) listener()
  }
}

export function exitOf({ code, reason, error }: Extract<ContainerState, { status: 'exited' }>): ContainerExit {
  return { code, ...(reason === undefined ? {} : { reason }), ...(error === undefined ? {} : { error }) }
}

export function notFound(ref: string): StrataError {
  return new StrataError('container_not_found', `there is no container ${JSON.stringify(ref.slice(0, 64))}`)
}
