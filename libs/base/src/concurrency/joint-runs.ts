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

/** Items of one run: what is written for them grows with each. */
const MOST_ITEMS = 256

/** What a run that has not begun is asked for. */
interface Batch<I, T> {
  readonly items: Set<I>
  readonly done: Promise<T>
}

/**
 * The same where each caller has an item, and no signal: a run gets the items of all whom it
 * serves, `MOST_ITEMS` at most. Those beyond get the run behind it.
 */
export class JointItems<K, I, T> {
  /** Of each key, the one that is joined. */
  readonly #joined = new Map<K, Batch<I, T>>()
  readonly #line = new SerialByKey<K>()

  run(key: K, item: I, work: (items: ReadonlySet<I>) => Promise<T>): Promise<T> {
    const joined = this.#joined.get(key)
    const hasRoom = joined && (joined.items.size < MOST_ITEMS || joined.items.has(item))
    const batch = hasRoom ? joined : this.#begin(key, work)
    batch.items.add(item)
    return batch.done
  }

  #begin(key: K, work: (items: ReadonlySet<I>) => Promise<T>): Batch<I, T> {
    const items = new Set<I>()
    const done = this.#line.run(key, () => {
      if (this.#joined.get(key) === batch) this.#joined.delete(key)
      return work(items)
    })
    const batch = { items, done }
    this.#joined.set(key, batch)
    return batch
  }
}
