import type { Digest } from '@strata/oci'
import { digestInKey, keys, leaseInKey } from '../keys.js'
import type { Etag } from '../objects/object-store.js'
import { piecesOf } from './blob-record.js'
import type { ListedBlob } from './blobs.js'
import { KeySet } from './key-set.js'

/**
 * The keys that the blob records of a collection name. `doomed` are the digests of the blobs that
 * this collection deletes, or would delete in a dry run.
 */
export class NamedByRecords {
  readonly #records = new KeySet()
  readonly #data = new KeySet()
  /** Keys of indexes and checkpoints. */
  readonly #derived = new KeySet()
  readonly #leases = new KeySet()

  constructor(readonly doomed: KeySet) {}

  add({ digest, record, etag }: ListedBlob): void {
    this.#records.add(`${digest} ${etag}`)
    for (const piece of piecesOf(record)) this.#data.add(piece.data)
    if (this.doomed.has(digest)) return
    for (const piece of piecesOf(record)) this.#leases.add(leaseInKey(piece.data) ?? '')
    if (record.diffId) this.#derived.add(keys.index(record.diffId))
    this.addCheckpoints(digest)
  }

  addCheckpoints(digest: Digest): void {
    this.#derived.add(keys.checkpoints(digest))
  }

  /** Whether it was added as it is: with this ETag. */
  readonly hasRecord = (digest: Digest, etag: Etag): boolean => this.#records.has(`${digest} ${etag}`)
  readonly hasData = (key: string): boolean => this.#data.has(key)
  /** An index or checkpoints. A key that is neither counts as named. */
  readonly hasDerived = (key: string): boolean => digestInKey(key) === undefined || this.#derived.has(key)
  readonly hasLease = (lease: string): boolean => this.#leases.has(lease)
}
