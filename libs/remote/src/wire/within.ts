/**
 * A work that has to end in time. What it throws after that is replaced by `late`; the caller's
 * signal goes first.
 */
export async function within<T>(
  ms: number,
  signal: AbortSignal,
  late: () => Error,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const end = new AbortController()
  const timer = setTimeout(() => end.abort(), ms)
  try {
    return await work(AbortSignal.any([signal, end.signal]))
  } catch (error) {
    signal.throwIfAborted()
    throw end.signal.aborted ? late() : error
  } finally {
    clearTimeout(timer)
  }
}
