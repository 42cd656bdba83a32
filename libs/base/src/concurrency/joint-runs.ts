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
