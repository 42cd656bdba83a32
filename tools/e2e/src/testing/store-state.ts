import { listAll, piecesOf, type BlobRecord, type ObjectStore } from '@strata/store'
import { until, type StrataUnderTest } from './strata.js'

/** As stored (records.ts): a tombstone has no value. That of a blob's record is a `BlobRecord`. */
interface Envelope {
  readonly value?: { readonly data?: string }
}
const RECORDS = /^(blobs|images|uploads)\//

/**
 * Of each store what was read of it, by key and ETag: many tests look at the same few hundred
 * records again and again.
 */
const known = new WeakMap<ObjectStore, Map<string, Envelope>>()

async function envelope(
  store: ObjectStore,
  { key, etag }: { readonly key: string; readonly etag: string },
): Promise<Envelope> {
  const ofStore = known.get(store) ?? new Map<string, Envelope>()
  known.set(store, ofStore)
  const state = `${key} ${etag}`
  const read = ofStore.get(state) ?? (await readEnvelope(store, key))
  ofStore.set(state, read)
  return read
}

async function readEnvelope(store: ObjectStore, key: string): Promise<Envelope> {
  const found = await store.read(key, 1024 * 1024)
  return found ? (JSON.parse(found.bytes.toString()) as Envelope) : {}
}

/**
 * The keys of the store's objects below the prefixes (`data/`, `uploads/`, `blobs/`, `images/`),
 * sorted; without tombstones.
 */
export async function objectsOf(strata: StrataUnderTest, ...prefixes: string[]): Promise<string[]> {
  const store = await strata.store()
  const keys: string[] = []
  for (const prefix of prefixes)
    for await (const object of listAll(store, prefix))
      if (!RECORDS.test(object.key) || (await envelope(store, object)).value !== undefined) keys.push(object.key)
  return keys.sort()
}

/**
 * Leases, and bytes that no blob's record points to: there are none once every load has ended,
 * well or badly.
 */
export async function unfinished(strata: StrataUnderTest): Promise<string[]> {
  const left = new Set(await objectsOf(strata, 'uploads/', 'data/'))
  const store = await strata.store()
  for await (const object of listAll(store, 'blobs/')) {
    const { value } = await envelope(store, object)
    if (value) for (const { data } of piecesOf(value as BlobRecord)) left.delete(data)
  }
  return [...left]
}

/**
 * Waits until nothing is under way, then gives all that a refused load may not add to. A layer's
 * index may stay: it is made from bytes alone, and says nothing of any image.
 */
export async function settledStore(strata: StrataUnderTest): Promise<string[]> {
  let left: string[] = []
  await until(async () => (left = await unfinished(strata)).length === 0, 'nothing left of any upload').catch(
    (error: unknown) => {
      throw new Error(`left in the store: ${left.join(', ')}`, { cause: error })
    },
  )
  return objectsOf(strata, 'data/', 'uploads/', 'blobs/', 'images/')
}

/** What a blob's bytes become by a fault that is not ours: others, or none at all. */
export async function damage(strata: StrataUnderTest, blob: string, bytes: Buffer | undefined): Promise<void> {
  const store = await strata.store()
  const { value } = await readEnvelope(store, `blobs/${blob.replace(':', '/')}`)
  if (value?.data === undefined) throw new Error(`${blob} is not in the store`)
  await store.delete([value.data])
  if (bytes) await store.put(value.data, bytes)
}
