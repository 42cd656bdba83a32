import { partialUploads, type ObjectStore } from './object-store.js'

const SUFFIX = '.begun'

/**
 * The key of an empty object that is written before a stream is put under `data/…`, and stays until both are swept. It is how an upload that nobody completed is
 * found again: a server that was started anew may tell of those only whose whole key it is asked for (MinIO does).
 */
export function begunKey(dataKey: string): string {
  return dataKey + SUFFIX
}

/** Of a dead upload's data: takes away what was begun and never became an object. Before the data itself, which is what tells of it. */
export async function abortBegun(store: ObjectStore, dataKeys: Iterable<string>): Promise<void> {
  const partial = partialUploads(store)
  if (!partial) return
  const known = new Set(dataKeys)
  for (const marker of known) {
    const key = marker.slice(0, -SUFFIX.length)
    if (marker !== begunKey(key) || known.has(key)) continue
    for await (const one of partial.listPartial(key)) await one.abort()
  }
}
