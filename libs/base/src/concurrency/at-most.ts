/**
 * Does a work for each item, `most` of them at the same time, and gives their results in the order
 * of the items.
 *
 * - Works begin in the order of the items.
 * - If a work fails, no other begins. The call rejects with the first error, but not before all
 *   works that had begun have settled: none goes on behind its caller.
 * - `most` bounds the memory, not the number of items: who has many passes few at a time.
 */
export async function atMost<T, R>(
  most: number,
  items: Iterable<T>,
  work: (item: T, at: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = []
  const left = [...items].entries()
  const failures: unknown[] = []
  const worker = async (): Promise<void> => {
    for (const [at, item] of left) {
      if (failures.length > 0) return
      try {
        results[at] = await work(item, at)
      } catch (error) {
        failures.push(error)
        return
      }
    }
  }
  await Promise.all(Array.from({ length: most }, worker))
  if (failures.length > 0) throw failures[0]
  return results
}

/**
 * The same for items that come one after another: `most` of them are worked on at the same time,
 * and the results come in the order of the items. Works go on while the caller looks at a result,
 * `most` ahead of it. Who stops early waits for the works that have begun.
 */
export async function* atMostOf<T, R>(
  most: number,
  items: Iterable<T> | AsyncIterable<T>,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const begun: Promise<R>[] = []
  try {
    for await (const item of items) {
      const result = work(item)
      // It is awaited below; until then its failure is nobody's.
      result.catch(() => undefined)
      begun.push(result)
      if (begun.length >= most) yield await begun.shift()!
    }
    for (let next = begun.shift(); next; next = begun.shift()) yield await next
  } finally {
    await Promise.allSettled(begun)
  }
}
