import { atMost, StrataError } from '@strata/base'
import { MAX_STORED_JSON_BYTES, readReferences, type Digest } from '@strata/oci'
import type { BlobStore } from '@strata/store'
import { isPlain, type RecordedManifest } from './image.js'
import { MayLack } from './may-lack.js'
import { isOfOneManifest } from './repositories/stops.js'

/** Documents of one record that are read at the same time. */
const AT_ONCE = 4

/** The blobs that a record refers to, and their sizes in bytes. */
export interface RecordReferences {
  /** As far as its documents could be read. */
  readonly blobs: ReadonlyMap<Digest, number>
  /** Those of the blobs that may be missing (`MayLack`). */
  readonly mayLack: ReadonlySet<Digest>
  /**
   * The error of the first document that could not be read. What such a document names is not in
   * `blobs`.
   */
  readonly unreadable: StrataError | undefined
}

/**
 * All that the record of a manifest refers to, and the manifest itself. For an index these are the
 * blobs that its parts name: the record lists the parts.
 *
 * Reads documents as they are stored (`readReferences`), and no config. So it does not judge
 * whether an image can be launched, and needs none of the limits that hold where images come in.
 * `takesSparse`: every layer may be missing.
 * @throws StrataError if the store does not answer
 */
export async function referencesOf(
  record: RecordedManifest,
  blobs: BlobStore,
  takesSparse = false,
): Promise<RecordReferences> {
  const found = new Map<Digest, number>([[record.digest, record.manifestSize]])
  // Also if its manifest cannot be read.
  if (!isPlain(record)) found.set(record.id, 0)
  const documents = record.whole ? record.whole.parts.map(({ digest }) => digest) : [record.digest]
  const read = await atMost(AT_ONCE, documents, (digest) => readOne(digest, blobs))
  const mayLack = new MayLack(takesSparse)
  let unreadable: StrataError | undefined
  for (const [at, document] of read.entries()) {
    const digest = documents[at]!
    if (document instanceof StrataError) {
      unreadable ??= document
      if (!found.has(digest)) found.set(digest, 0)
      continue
    }
    found.set(digest, document.size)
    const { config, layers } = document
    for (const one of config ? [config, ...layers] : layers) found.set(one.digest, one.size)
    if (config) mayLack.add({ config, layers })
  }
  return { blobs: found, mayLack: mayLack.digests, unreadable }
}

async function readOne(digest: Digest, blobs: BlobStore) {
  try {
    const bytes = await blobs.read(digest, MAX_STORED_JSON_BYTES)
    return { size: bytes.length, ...readReferences(bytes, `manifest ${digest}`) }
  } catch (error) {
    if (isOfOneManifest(error)) return error
    throw error
  }
}
