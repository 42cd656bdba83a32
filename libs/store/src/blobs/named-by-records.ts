import type { Digest } from '@strata/oci'
import { digestInKey, keys } from '../keys.js'
import type { Etag } from '../objects/object-store.js'
import { makerOf, piecesOf } from './blob-record.js'
import type { ListedBlob } from './blobs.js'
import { inTurns } from './in-turns.js'
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

  constructor(
    readonly doomed: KeySet,
    private readonly signal: AbortSignal | undefined,
  ) {}

  async add({ digest, record, etag }: ListedBlob): Promise<void> {
    this.#records.add(`${digest} ${etag}`)
    for await (const { data } of inTurns(piecesOf(record), this.signal)) this.#data.add(data)
    if (this.doomed.has(digest)) return
    this.#leases.add(makerOf(record) ?? '')
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
