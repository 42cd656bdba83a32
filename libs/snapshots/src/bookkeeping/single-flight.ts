import { StrataError } from '@strata/base'

/**
 * Work by key that is done once for all who ask while it is under way. It is aborted when the last
 * of them has given up.
 */
export class SingleFlight<T> {
  readonly #flights = new Map<
    string,
    { readonly result: Promise<T>; readonly abort: AbortController; waiting: number }
  >()

  async run(key: string, signal: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (signal?.aborted) throw cancelled()
    const flight = this.#flights.get(key) ?? this.#start(key, work)
    flight.waiting++
    if (!signal) return flight.result
    const aborted = Promise.withResolvers<never>()
    const onAbort = (): void => {
      aborted.reject(cancelled())
      if (--flight.waiting > 0) return
      // Whoever comes from now on must start anew, not join what is being ended.
      this.#flights.delete(key)
      flight.abort.abort()
    }
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      return await Promise.race([flight.result, aborted.promise])
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  #start(
    key: string,
    work: (signal: AbortSignal) => Promise<T>,
  ): { readonly result: Promise<T>; readonly abort: AbortController; waiting: number } {
    const abort = new AbortController()
    const flight = { result: work(abort.signal), abort, waiting: 0 }
    this.#flights.set(key, flight)
    const end = (): void => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key)
    }
    flight.result.then(end, end)
    return flight
  }

  /** Aborts all work and waits for its end. */
  async close(): Promise<void> {
    const flights = [...this.#flights.values()]
    for (const { abort } of flights) abort.abort()
    await Promise.allSettled(flights.map(({ result }) => result))
  }
}

function cancelled(): StrataError {
  return new StrataError('cancelled', 'the work was cancelled')
}
