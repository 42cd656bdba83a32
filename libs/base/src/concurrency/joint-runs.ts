import { SerialByKey } from './serial.js'
import { SingleFlightByKey } from './single-flight.js'

/**
 * Work that must have begun after the caller asked for it: a run serves all who asked before it
 * began, and whoever asks while it is under way shares the next one.
 *
 * - Two runs of one key never go on at the same time.
 * - Signals and errors are those of a single flight. A run that everybody has left before it began
 *   never begins.
 */
export class JointRuns<K, T> {
  readonly #planned = new SingleFlightByKey<K, T>()
  readonly #line = new SerialByKey<K>()

  run(key: K, work: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.#planned.run(
      key,
      (left, stopJoining) =>
        this.#line.run(key, () => {
          stopJoining()
          left.throwIfAborted()
          return work(left)
        }),
      signal,
    )
  }
}

/** The same where each caller has an item: a run gets the items of all whom it serves. */
export class JointItems<K, I, T> {
  readonly #runs = new JointRuns<K, T>()
  readonly #waiting = new Map<K, Set<I>>()

  run(key: K, item: I, work: (items: ReadonlySet<I>) => Promise<T>): Promise<T> {
    const items = this.#waiting.get(key) ?? new Set<I>()
    this.#waiting.set(key, items.add(item))
    return this.#runs.run(key, () => {
      this.#waiting.delete(key)
      return work(items)
    })
  }
}
