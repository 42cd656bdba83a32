import { StrataError } from '@strata/base'

/** The error of a write whose signal aborted. */
export function cancelled(): StrataError {
  return new StrataError('cancelled', 'the write was cancelled')
}

/**
 * The source's chunks until `signal` aborts. Then the iteration throws `cancelled` at once, also
 * while the source gives nothing. `return()` of the source is called but not awaited: a generator
 * that hangs in an `await` would never answer it.
 */
export async function* abortable(
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]()
  let ended = false
  try {
    for (;;) {
      if (signal?.aborted) throw cancelled()
      // A race for each chunk: a promise that stays pending would keep all chunks that it lost to.
      const next = await unlessAborted(chunks.next(), signal)
      if (next.done) {
        ended = true
        return
      }
      yield next.value
    }
  } finally {
    if (!ended) void Promise.resolve(chunks.return?.()).catch(() => undefined)
  }
}

/** What `work` comes to, or `cancelled` as soon as `signal` aborts: the work goes on then. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work
  const aborted = Promise.withResolvers<never>()
  const abort = () => aborted.reject(cancelled())
  if (signal.aborted) abort()
  signal.addEventListener('abort', abort)
  try {
    return await Promise.race([work, aborted.promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
