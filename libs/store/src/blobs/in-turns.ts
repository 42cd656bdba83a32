import { setImmediate } from 'node:timers/promises'

const TURN_MS = 5

/**
 * The same items, and the event loop gets a turn each 5 ms. Work on a million of them that waits
 * for nothing would else hold up all others for half a minute, and lose the lock of its job. An
 * `await` of what is there already gives no turn.
 * @throws the signal's reason, before each item
 */
export async function* inTurns<T>(
  items: Iterable<T> | AsyncIterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T> {
  let since = performance.now()
  for await (const item of items) {
    signal?.throwIfAborted()
    if (performance.now() - since > TURN_MS) {
      await setImmediate()
      since = performance.now()
    }
    yield item
  }
}

/** The same in parts of `size`, of those items that are wanted. */
export async function* batches<T>(
  items: Iterable<T> | AsyncIterable<T>,
  size: number,
  signal: AbortSignal | undefined,
  isWanted: (item: T) => boolean = () => true,
): AsyncGenerator<T[]> {
  let batch: T[] = []
  for await (const item of inTurns(items, signal)) {
    if (!isWanted(item)) continue
    batch.push(item)
    if (batch.length < size) continue
    yield batch
    batch = []
  }
  if (batch.length > 0) yield batch
}
