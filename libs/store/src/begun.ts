import { partialUploads, type ObjectStore } from './object-store.js'

const SUFFIX = '.begun'

/**
 * The key of an empty object that is written before a stream is put under `data/…`, and stays until both are swept. It is how an upload that nobody completed is
 * found again: a server that was started anew may tell of those only whose whole key it is asked for (MinIO does).
 */
export function begunKey(dataKey: string): string {
  return dataKey + SUFFIX
}

/** The keys of what was begun and is no object, by the markers among the keys. */
export function begunIn(dataKeys: Iterable<string>): string[] {
  const known = new Set(dataKeys)
  return [...known].filter((key) => key.endsWith(SUFFIX)).map((marker) => marker.slice(0, -SUFFIX.length)).filter((key) => !known.has(key))
}

/** Of a dead upload's data: takes away what was begun and never became an object. Before the data itself, which is what tells of it. */
export async function abortBegun(store: ObjectStore, dataKeys: Iterable<string>): Promise<void> {
  const partial = partialUploads(store)
  if (!partial) return
  for (const key of begunIn(dataKeys)) for await (const one of partial.listPartial(key)) await one.abort()
}
