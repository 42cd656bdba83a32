/**
 * Settles as `promise` does, or rejects as soon as `signal` aborts, whichever comes first.
 *
 * - It rejects with the signal's reason, or with what `reason` makes.
 * - A signal that is aborted already wins over a promise that is settled already.
 * - What becomes of the promise after that is not reported: whoever made it ends its work.
 * - It leaves no listener on the signal.
 */
export async function orAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal,
  reason: () => unknown = () => signal.reason,
): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = (): void => reject(reason())
  if (signal.aborted) onAbort()
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([aborted, promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
