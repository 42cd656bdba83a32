import { orAborted, StrataError } from '@strata/base'

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
      // Each chunk has a promise of its own to race against. One promise for the whole stream would
      // keep every chunk until the stream ends.
      const next = await (signal ? orAborted(chunks.next(), signal, cancelled) : chunks.next())
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
