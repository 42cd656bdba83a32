import { orAborted } from './or-aborted.js'

interface Flight<T> {
  readonly result: Promise<T>
  readonly abort: AbortController
  /** Callers that wait for the result. One without a signal waits for good. */
  waiting: number
}

/** The work of a flight. */
export type FlightWork<T> = (
  /** Aborts when the last caller has left, with that caller's reason. */
  signal: AbortSignal,
  /** From here on nobody joins: whoever calls starts the next flight, while this one goes on. */
  stopJoining: () => void,
) => Promise<T>

/**
 * Work that is done once for all who ask for it while it is under way.
 *
 * - The first caller starts the work, before `run` returns. Later callers join: their own `work` is
 *   not called, and they get the same result or the same error.
 * - Whoever calls after the work has ended starts it anew. Nothing is remembered.
 * - A caller whose signal aborts is rejected at once, with the signal's reason. The work goes on
 *   for the others. When the last caller has left, the work's signal aborts; whoever calls from
 *   then on starts anew and does not join what is being ended. A caller that must not leave before
 *   the aborted work has ended waits for that (`settled`).
 * - A caller without a signal never leaves, so the work is not aborted before `close`.
 */
export class SingleFlight<T> {
  #flight: Flight<T> | undefined
  /** Every flight that has not ended; those that nobody can join among them. */
  readonly #underWay = new Set<Flight<T>>()

  async run(work: FlightWork<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted()
    const flight = this.#flight ?? this.#start(work)
    flight.waiting++
    if (!signal) return flight.result
    const leave = (): void => {
      if (--flight.waiting > 0) return
      this.#stopJoining(flight)
      flight.abort.abort(signal.reason)
    }
    signal.addEventListener('abort', leave, { once: true })
    try {
      return await orAborted(flight.result, signal)
    } finally {
      signal.removeEventListener('abort', leave)
    }
  }

  #start(work: FlightWork<T>): Flight<T> {
    const abort = new AbortController()
    const started = Promise.withResolvers<T>()
    const flight: Flight<T> = { result: started.promise, abort, waiting: 0 }
    this.#flight = flight
    this.#underWay.add(flight)
    const end = (): void => {
      this.#stopJoining(flight)
      this.#underWay.delete(flight)
    }
    // Also where everybody has left: then nobody else handles a failure.
    flight.result.then(end, end)
    // A work that throws at once has failed as one that rejects.
    Promise.try(work, abort.signal, () => this.#stopJoining(flight)).then(started.resolve, started.reject)
    return flight
  }

  #stopJoining(flight: Flight<T>): void {
    if (this.#flight === flight) this.#flight = undefined
  }

  /** Whether a caller would join now. */
  get isJoinable(): boolean {
    return this.#flight !== undefined
  }

  get isIdle(): boolean {
    return this.#underWay.size === 0
  }

  /** Resolves when all that is under way now has ended, well or not. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#underWay].map(({ result }) => result))
  }

  /** Aborts what is under way, and waits for its end. */
  async close(): Promise<void> {
    for (const { abort } of this.#underWay) abort.abort()
    await this.settled()
  }
}

/** The same for each key apart. A key without work takes no memory. */
export class SingleFlightByKey<K, T> {
  readonly #flights = new Map<K, SingleFlight<T>>()

  async run(key: K, work: FlightWork<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted()
    const known = this.#flights.get(key)
    const flights = known ?? new SingleFlight<T>()
    if (!known) this.#flights.set(key, flights)
    const isNew = !flights.isJoinable
    const result = flights.run(work, signal)
    if (isNew) void this.#forgetWhenIdle(key, flights)
    return result
  }

  async #forgetWhenIdle(key: K, flights: SingleFlight<T>): Promise<void> {
    await flights.settled()
    if (flights.isIdle && this.#flights.get(key) === flights) this.#flights.delete(key)
  }

  /** Whether a caller would join now. */
  isJoinable(key: K): boolean {
    return this.#flights.get(key)?.isJoinable ?? false
  }

  /** Keys that have work. */
  get size(): number {
    return this.#flights.size
  }

  /** As `SingleFlight.settled`, for these keys or all. */
  async settled(keys: Iterable<K> = this.#flights.keys()): Promise<void> {
    await Promise.all([...keys].map(async (key) => this.#flights.get(key)?.settled()))
  }

  /** As `SingleFlight.close`. */
  async close(): Promise<void> {
    await Promise.all([...this.#flights.values()].map((flights) => flights.close()))
  }
}
