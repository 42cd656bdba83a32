import { createHash } from 'node:crypto'
import { StrataError } from '@strata/base'
import {
  algorithmOf,
  familiarReference,
  hexOf,
  isDigest,
  isElsewhere,
  MAX_STORED_JSON_BYTES,
  readReferences,
  type Digest,
} from '@strata/oci'
import { z } from 'zod'
import { blobRecordSchema, piecesOf, type BlobRecord } from './blobs/blob-record.js'
import { BlobStore } from './blobs/blobs.js'
import { digestInKey, keys, parseImageKey, PREFIX, leaseInKey } from './keys.js'
import { listAll, type ConditionalRemove, type ObjectStore } from './objects/object-store.js'
import { Records } from './records.js'
import { Leases } from './leases/leases.js'

/** What matters here of a name's record: its manifest, and all parts of a multi-platform image. */
const digest = z.custom<Digest>(isDigest)
const nameSchema = z.object({ digest, whole: z.object({ parts: z.array(z.object({ digest })) }).optional() })

/**
 * Examines the objects with the keys `tail`, which may not have reached the disk before a loss of
 * power, and deletes those that did not. Afterwards, of the objects in `tail`:
 * - a blob that still exists has its bytes: their digest was compared;
 * - an image that still exists has its manifest, its config and all of its layers: an image that
 *   lacked one of them has lost all its names. (A layer that may be elsewhere is none that it lacks,
 *   unless it was here);
 * - a lease that still exists has all bytes that it received, or was still receiving (the reaper
 *   ends those);
 * - indexes are deleted: they are made again when they are needed.
 *
 * No other process may have the store open. Idempotent. Bytes that nothing needs any more are left
 * to the collector. `warn` gets a line for each image and upload that is gone.
 */
export async function mendTail(
  store: ObjectStore & ConditionalRemove,
  tail: readonly string[],
  warn: (message: string) => void,
): Promise<void> {
  const below = (prefix: string) => tail.filter((key) => key.startsWith(prefix))
  await store.delete(below(PREFIX.indexes))
  // Marks may be lost while their records are not. So the notes that all marks exist are deleted,
  // and the storage service makes the marks again. Only notes that exist are deleted: a delete
  // makes a lock's file, and the disk may be full.
  for (const key of [keys.allUsedMarked, keys.allNamesMarked, keys.allManifestsKept])
    if (await store.stat(key)) await store.delete([key])
  const unproven = new Set(below(PREFIX.data))
  const lost = new Set<Digest>()
  const blobs = new Records<BlobRecord>(store, blobRecordSchema, 'the record of blob')
  for (const key of below(PREFIX.blobs)) {
    const digest = digestInKey(key)
    const record = await readable(blobs, key)
    if (record && digest && (await isComplete(store, digest, record, unproven))) {
      for (const { data } of piecesOf(record)) unproven.delete(data)
      continue
    }
    await store.delete([key])
    if (digest) lost.add(digest)
  }
  await dropImages(store, new Set(below(PREFIX.images)), lost, warn)
  await dropUploads(store, below(PREFIX.leases), unproven, warn)
}

/**
 * Whether the blob has its bytes. Bytes that were on disk before are not read again: a loss of
 * power does not change them.
 */
async function isComplete(
  store: ObjectStore,
  digest: Digest,
  record: BlobRecord,
  tail: ReadonlySet<string>,
): Promise<boolean> {
  const pieces = piecesOf(record)
  for (const { data, size } of pieces) if ((await store.stat(data))?.size !== size) return false
  if (!pieces.some(({ data }) => tail.has(data))) return true
  const hash = createHash(algorithmOf(digest))
  for (const { data } of pieces) {
    const object = await store.get(data)
    for await (const chunk of object?.body ?? []) hash.update(chunk as Buffer)
  }
  return hexOf(digest) === hash.digest('hex')
}

/**
 * If an image has a name in the tail, everything that it needs is looked for. The other images are
 * removed only if they need something that was lost.
 */
async function dropImages(
  store: ObjectStore,
  tail: ReadonlySet<string>,
  lost: ReadonlySet<Digest>,
  warn: (message: string) => void,
): Promise<void> {
  if (tail.size === 0 && lost.size === 0) return
  const records = new Records(store, nameSchema, 'the record of image name')
  const images = new Map<Digest, { keys: string[]; manifests: Set<Digest> }>()
  const drop = async (key: string, what: string) => {
    await store.delete([key])
    warn(`image ${nameOf(key)} is gone: ${what} had not reached the disk when the machine went down`)
  }
  for await (const { key } of listAll(store, PREFIX.images)) {
    const name = await readable(records, key)
    if (name) {
      const image = images.get(name.digest) ?? { keys: [], manifests: new Set([name.digest]) }
      images.set(name.digest, image)
      image.keys.push(key)
      for (const part of name.whole?.parts ?? []) image.manifests.add(part.digest)
    } else if (tail.has(key)) await drop(key, 'its name')
  }
  const blobs = new BlobStore(store)
  for (const { keys: names, manifests } of images.values()) {
    const among = names.some((key) => tail.has(key)) ? undefined : lost
    let lack: Digest | undefined
    for (const manifest of manifests) lack ??= await lackOf(blobs, manifest, lost, among)
    if (lack) for (const key of names) await drop(key, `blob ${lack}`)
  }
}

/**
 * A blob that the manifest needs and that is missing; if `among` is given, one that is in `among`.
 * A layer that may be elsewhere is missing if it is among `lost`.
 */
async function lackOf(
  blobs: BlobStore,
  manifest: Digest,
  lost: ReadonlySet<Digest>,
  among: ReadonlySet<Digest> | undefined,
): Promise<Digest | undefined> {
  if (among?.has(manifest)) return manifest
  let needed: Digest[]
  try {
    const what = `manifest ${manifest}`
    const { config, layers } = readReferences(await blobs.read(manifest, MAX_STORED_JSON_BYTES), what)
    // What an index names is not looked for: the name's record lists the parts that the store has.
    const gone = layers.find((layer) => isElsewhere(layer) && lost.has(layer.digest))
    if (gone) return gone.digest
    const here = layers.filter((layer) => !isElsewhere(layer))
    needed = [...(config ? [config] : []), ...here].map(({ digest }) => digest)
  } catch (error) {
    if (!(error instanceof StrataError)) throw error
    // What is too large to be read is all there, and must not keep the store from opening.
    if (error.code === 'limit_exceeded') return undefined
    if (!['not_found', 'corrupt'].includes(error.code)) throw error
    return among ? undefined : manifest
  }
  for (const digest of needed) if (among ? among.has(digest) : !(await blobs.stat(digest))) return digest
  return undefined
}

/**
 * Ends the leases with bytes in the tail that are not in a verified blob: nothing verifies such
 * bytes again. A lease that is still receiving is left to the reaper, as after any crash. A lease
 * whose names are set does not need its bytes any more.
 */
async function dropUploads(
  store: ObjectStore,
  records: readonly string[],
  unproven: ReadonlySet<string>,
  warn: (message: string) => void,
): Promise<void> {
  const leases = new Leases(store)
  const ids = new Set([...records, ...unproven].map(leaseInKey))
  for (const id of ids) {
    if (id === undefined) continue
    const key = keys.lease(id)
    const upload = await leases.get(id).catch(ifCorrupt)
    if (upload === null) await store.delete([key])
    else if (
      !upload ||
      upload.state === 'receiving' ||
      upload.state === 'named' ||
      ![...unproven].some((data) => leaseInKey(data) === id)
    )
      continue
    else await leases.end(id)
    warn(`upload ${id} is over: what it brought had not reached the disk when the machine went down`)
  }
}

/** `undefined` also for what is no record: pages that were never written are empty or zeros. */
async function readable<T>(records: Records<T>, key: string): Promise<T | undefined> {
  return (await records.read(key).catch(ifCorrupt)) ?? undefined
}

function ifCorrupt(error: unknown): null {
  if (error instanceof StrataError && ['corrupt', 'limit_exceeded'].includes(error.code)) return null
  throw error
}

function nameOf(key: string): string {
  const name = parseImageKey(key)
  if (!name) return key
  return name.tag ? familiarReference(name) : `${name.repository ?? '<none>'}@${name.digest}`
}
