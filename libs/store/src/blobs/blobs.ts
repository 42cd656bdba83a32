import type { Readable } from 'node:stream'
import { JointItems, StrataError } from '@strata/base'
import { algorithmOf, digestOf, type Digest, type DiffId } from '@strata/oci'
import { digestInKey, freshDataKey, keys, leaseInKey, PREFIX } from '../keys.js'
import {
  listAll,
  localObjects,
  partialUploads,
  type ByteRange,
  type Etag,
  type ObjectStore,
} from '../objects/object-store.js'
import { CAS_ATTEMPTS, changedTooOften, Records, type Found } from '../records.js'
import { interrupted, Leases } from '../leases/leases.js'
import {
  blobRecordSchema,
  countOf,
  firstOf,
  makerOf,
  MAX_PIECES,
  MAX_SERIES,
  piecesOf,
  seriesOf,
  sizeOf,
  type BlobRecord,
  type Piece,
  type ProvenData,
} from './blob-record.js'
import { absent, BlobReader, type FilePart } from './blob-reader.js'

/** How many objects are looked at at the same time. */
const AT_ONCE = 16
/**
 * As soon as `deleteUnused` holds this many objects in memory, it deletes them. The objects of one
 * lease may come on top.
 */
const MOST_UNUSED = 100_000

/**
 * Called for each lease whose data cannot be listed or deleted. If it throws, the call ends with
 * that error.
 */
type OnFailure = (lease: string, error: unknown) => void

/** The record that was held, or what is there instead. */
type Held =
  | { readonly held: BlobRecord; readonly seen: undefined }
  | { readonly held: undefined; readonly seen: Found<BlobRecord> | undefined }

/** A blob as a list shows it. */
export interface ListedBlob {
  readonly digest: Digest
  readonly record: BlobRecord
  readonly etag: Etag
  readonly recordSize: number
}

/** A blob whose record is damaged. */
export type DamagedBlob = Pick<ListedBlob, 'digest' | 'etag' | 'recordSize'>

/**
 * Blobs by digest. The bytes lie under `data/` keys. The blob's record, under the key of its
 * digest, says where they are, and makes them visible. So a digest is visible only after its bytes
 * were verified, and bytes are never moved or copied.
 *
 * A blob's bytes lie in one object, or in up to `MAX_PIECES` ordered **pieces**, which its record
 * names in `MAX_SERIES` series at most. So bytes that arrive in several requests need no copy at
 * the end. Readers see no difference: a range may span
 * pieces. One lease wrote all pieces of a blob, and they are deleted together. Only `localPath`
 * gives nothing for a blob in pieces.
 *
 * **A blob that someone counts on is never collected.** A writer that needs digest D for lease L
 * adds L to the holders of D's record by compare-and-set: by `hold` if the blob exists, else by
 * `commit` with bytes of its own. L's record lives from before the first hold until after the names
 * are visible. The collector lists blob records with their ETags, *then* the live leases, *then*
 * reads all references, and replaces what nobody needs by a tombstone *if its ETag is still that of
 * the list*; only then it deletes the bytes. Every hold changes the record, so a collector that has
 * not seen the hold fails. If a lease ended before the second step, its names are visible, and the
 * third step reads them. A writer that finds a tombstone treats the blob as absent and replaces the
 * tombstone. store-model.ts tries every interleaving of exactly these steps.
 *
 * **A new record is made in two steps**, since an owner may stand still at any line while others
 * end its lease and delete its bytes. First the owner writes the record as *pending*. Then it looks
 * at its lease. If the lease lives, the owner makes the record count, on the condition that it is
 * unchanged. If the lease has ended, the owner withdraws the record. A process that finds a pending
 * record looks at the lease of its maker, whose id is in the key of the bytes. If that lease lives,
 * the record counts, and the hold removes `pending`. Otherwise there is no blob, and the record is
 * written over.
 *
 * So each record that counts was seen together with the live lease of its maker. A process that
 * deletes bytes that no record names (`deleteUnused`, the collector) lists the bytes, *then* makes
 * sure that their lease has ended, *then* reads the records. That reading finds each record that
 * will ever count. A pending record that is written later never counts.
 *
 * After each hold the owner looks at its lease. If the lease has ended, the owner gets
 * `upload_interrupted`. A record whose bytes are gone counts as absent.
 *
 * A **damaged record** does not show where the blob's bytes are and which leases hold it. A writer
 * that needs the blob brings the bytes again and writes over the record. The new record names all
 * leases that live then: any of them may have been a holder. Until that is done, no data without a
 * record are deleted: they may be this blob's.
 */
export class BlobStore {
  readonly #records: Records<BlobRecord>
  readonly #leases: Leases
  readonly #reader: BlobReader
  readonly #holding = new JointItems<string, string, Held>()

  constructor(private readonly store: ObjectStore) {
    this.#records = new Records(
      store,
      blobRecordSchema,
      'the record of blob',
      () =>
        'load an image again that has the blob, or remove the images that have it; until then no data are collected',
    )
    this.#leases = new Leases(store)
    this.#reader = new BlobReader(store, this.#records)
  }

  /** The record; `undefined` for none, for a tombstone, and for one that is damaged. */
  async stat(digest: Digest): Promise<BlobRecord | undefined> {
    return (await this.#records.look(keys.blob(digest)))?.value
  }

  /**
   * Adds the lease to the blob's holders. `false`: the blob does not exist, so the caller must
   * bring its bytes (`commit`).
   * @throws StrataError `upload_interrupted` if the lease has been ended
   */
  async hold(digest: Digest, lease: string): Promise<boolean> {
    return (await this.held(digest, lease)) !== undefined
  }

  /** As `hold`, and gives the record that was held. */
  async held(digest: Digest, lease: string): Promise<BlobRecord | undefined> {
    return (await this.#hold(keys.blob(digest), lease)).held
  }

  /**
   * Makes a blob of verified bytes, held by the lease (`created`). If the blob exists already,
   * holds that one and deletes the given bytes (`existing`). It may be called again with the same
   * bytes, also at the same time.
   * @throws StrataError `upload_interrupted` if the lease has been ended; `limit_exceeded` for more
   * than `MAX_PIECES`, or `MAX_SERIES`
   */
  async commit(digest: Digest, proven: ProvenData, lease: string): Promise<'created' | 'existing'> {
    const key = keys.blob(digest)
    checkProven(digest, proven, lease)
    // Nearly every caller has just looked and found nothing, so the first try goes without a look.
    let seen: Found<BlobRecord> | undefined
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      if (await this.#make(key, proven, lease, seen)) return 'created'
      const found = await this.#hold(key, lease)
      if (found.held) {
        const used = new Set(piecesOf(found.held).map(({ data }) => data))
        const unused = piecesOf(proven).flatMap(({ data }) => (used.has(data) ? [] : [data]))
        if (unused.length === 0) return 'created'
        await this.store.delete(unused)
        return 'existing'
      }
      seen = found.seen
    }
    throw changedTooOften(key)
  }

  /** Makes a blob of a few bytes in memory (a manifest, a config), or holds it if it exists. */
  async add(digest: Digest, bytes: Uint8Array, lease: string): Promise<'created' | 'existing'> {
    verify(digest, bytes)
    if (await this.hold(digest, lease)) return 'existing'
    const data = freshDataKey(lease)
    await this.store.put(data, bytes)
    return this.commit(digest, { data, size: bytes.length }, lease)
  }

  /**
   * Records the diffID of a layer's blob.
   * @throws StrataError `not_found` if the blob is not there, `digest_mismatch` if another diffID
   * was recorded before
   */
  async prove(digest: Digest, diffId: DiffId): Promise<void> {
    await this.#records.update(keys.blob(digest), (record) => {
      if (!record) throw absent(digest)
      if (record.diffId === diffId) return undefined
      if (record.diffId)
        throw new StrataError('digest_mismatch', `blob ${digest} has the diffID ${record.diffId}, not ${diffId}`)
      return { ...record, diffId }
    })
  }

  /**
   * The blob's bytes as a stream. They are not verified: that was done before `commit`.
   * @throws StrataError `not_found`; `corrupt` if its record is damaged
   */
  async open(digest: Digest, range?: ByteRange): Promise<{ readonly size: number; readonly body: Readable }> {
    return this.#reader.open(digest, range)
  }

  /**
   * The blob's bytes of a range, as parts of files if the store's objects are files of this
   * machine, else as bytes: each is lent until the next one is asked for. A caller that has read
   * the blob's record (`stat`) passes it, and no record is read.
   * @throws StrataError `not_found`, before the first part; `corrupt`
   */
  parts(digest: Digest, range: ByteRange, record?: BlobRecord): AsyncGenerator<Uint8Array | FilePart> {
    return this.#reader.parts(digest, range, record)
  }

  /**
   * The whole blob in memory, verified against its digest.
   * @throws StrataError `not_found`, `limit_exceeded`, `corrupt`
   */
  async read(digest: Digest, maxBytes: number): Promise<Buffer> {
    const bytes = await this.#reader.read(digest, maxBytes)
    verify(digest, bytes, 'corrupt')
    return bytes
  }

  /** As many bytes as the store has of a blob; `undefined` if one of its objects is gone. */
  async storedBytes(record: BlobRecord): Promise<number | undefined> {
    const pieces = piecesOf(record)
    const lease = makerOf(record)
    const sizes =
      pieces.length > AT_ONCE && lease !== undefined
        ? await this.#sizesOf(lease, pieces)
        : await Promise.all(pieces.map(async ({ data }) => (await this.store.stat(data))?.size))
    return sizes.reduce((sum, size) => (sum === undefined || size === undefined ? undefined : sum + size), 0)
  }

  /**
   * The same for many pieces: one list of what their lease wrote takes fewer calls than a `stat` of
   * each.
   */
  async #sizesOf(lease: string, pieces: readonly Piece[]): Promise<(number | undefined)[]> {
    const left = new Set(pieces.map(({ data }) => data))
    const sizes = new Map<string, number>()
    for await (const { key, size } of listAll(this.store, keys.dataOf(lease))) {
      if (!left.delete(key)) continue
      sizes.set(key, size)
      if (left.size === 0) break
    }
    return pieces.map(({ data }) => sizes.get(data))
  }

  /**
   * The path of the file that holds a blob's bytes, if the store's objects are files of this
   * machine and the blob lies in one object. Otherwise `undefined`: the caller uses `open`.
   */
  localPath(record: BlobRecord): string | undefined {
    return 'pieces' in record ? undefined : localObjects(this.store)?.localPath(record.data)
  }

  /**
   * All blob records, in the order of their digests, each with its ETag and its size in bytes as
   * stored; without those that the caller knows with the ETag that they have. Blobs whose records
   * are damaged are given to `onDamaged` in between.
   */
  async *list({
    isKnown = () => false,
    onDamaged,
  }: {
    isKnown?: (digest: Digest, etag: Etag) => boolean
    onDamaged?: (blob: DamagedBlob) => void
  } = {}): AsyncGenerator<ListedBlob> {
    for await (const { key, value, etag, size } of this.#records.list(PREFIX.blobs, {
      isKnown: (recordKey, recordEtag) => {
        const digest = digestInKey(recordKey)
        return digest !== undefined && isKnown(digest, recordEtag)
      },
      onDamaged: (record) => {
        const digest = digestInKey(record.key)
        if (digest) onDamaged?.({ digest, etag: record.etag, recordSize: record.size })
      },
    })) {
      const digest = digestInKey(key)
      if (digest) yield { digest, record: value, etag, recordSize: size }
    }
  }

  /**
   * For the collector: ends a record if it has not changed since it was listed. `false`: it has
   * changed, because a lease has held it or another collector was first. After `true` the caller
   * deletes the bytes.
   */
  async retire({ digest, etag }: ListedBlob | DamagedBlob): Promise<boolean> {
    return this.#records.retire(keys.blob(digest), { value: undefined, etag })
  }

  /**
   * For the collector: removes ended holders, if the record has not changed since it was listed.
   */
  async prune({ digest, record, etag }: ListedBlob, holders: readonly string[]): Promise<boolean> {
    return (
      (await this.#records.write(keys.blob(digest), { ...record, holders: [...holders] }, { value: record, etag })) !==
      undefined
    )
  }

  /**
   * Deletes what ended leases wrote and no blob uses; gives the number of objects and bytes. It
   * lists the data, *then* checks that their lease does not live (otherwise all of them stay),
   * *then* reads blob records: what a record names stays. `digests` are the only blobs that the
   * data can have become, for a caller that knows them. Without them every record of the store is
   * read, once for all leases. If one of the records is damaged, nothing is deleted, and the data
   * are left to the collector.
   *
   * `onFailure` is called for each lease whose data cannot be listed or deleted, and the call goes
   * on with the other leases. By default the first such error ends the call.
   */
  async deleteUnused(
    leases: string | readonly string[],
    digests?: Iterable<Digest>,
    onFailure: OnFailure = (_, error) => {
      throw error
    },
  ): Promise<{ objects: number; bytes: number }> {
    const deleted = { objects: 0, bytes: 0 }
    let unused = new Map<string, number>()
    const deleteThose = async (): Promise<void> => {
      if (unused.size === 0 || !(await this.#leaveNamed(unused, digests))) return
      for (const key of await this.#deleteEach([...unused.keys()], onFailure)) {
        deleted.objects++
        deleted.bytes += unused.get(key) ?? 0
      }
    }
    for (const lease of [leases].flat()) {
      try {
        for (const [key, size] of await this.#unusedOf(lease)) unused.set(key, size)
      } catch (error) {
        onFailure(lease, error)
      }
      if (unused.size < MOST_UNUSED) continue
      await deleteThose()
      unused = new Map()
    }
    await deleteThose()
    return deleted
  }

  /**
   * The objects of an ended lease, by key, with their sizes in bytes. None if the lease lives.
   * Aborts its partial uploads.
   */
  async #unusedOf(lease: string): Promise<Map<string, number>> {
    const data = new Map<string, number>()
    for await (const { key, size } of listAll(this.store, keys.dataOf(lease))) data.set(key, size)
    if (await this.#isLive(lease)) return new Map()
    const partials = partialUploads(this.store)?.listPartial(keys.dataOf(lease)) ?? []
    for await (const partial of partials) await partial.abort()
    return data
  }

  /** Deletes all at once, and if that fails lease by lease. Gives what it deleted. */
  async #deleteEach(data: readonly string[], onFailure: OnFailure): Promise<readonly string[]> {
    try {
      await this.store.delete(data)
      return data
    } catch {
      // The calls below, one for each lease, show which of them fail.
    }
    const gone: string[] = []
    for (const [lease, its] of Object.entries(Object.groupBy(data, (key) => leaseInKey(key) ?? '')))
      try {
        await this.store.delete(its!)
        gone.push(...its!)
      } catch (error) {
        onFailure(lease, error)
      }
    return gone
  }

  /**
   * Removes from `data` the keys that blob records name. `false`: one of the records is damaged.
   */
  async #leaveNamed(data: Map<string, number>, digests: Iterable<Digest> | undefined): Promise<boolean> {
    let isReadable = true
    const leave = (record: BlobRecord): void => {
      for (const piece of piecesOf(record)) data.delete(piece.data)
    }
    if (digests)
      for (const digest of new Set(digests)) {
        const found = await this.#records.look(keys.blob(digest))
        if (found?.damage) isReadable = false
        if (found?.value) leave(found.value)
      }
    else for await (const { record } of this.list({ onDamaged: () => (isReadable = false) })) leave(record)
    return isReadable
  }

  /**
   * The two steps of a new record. `false`: another writer was first, so the caller reads the
   * record again. A record whose bytes are gone keeps its holders: they count on the digest, and
   * get bytes again.
   */
  async #make(key: string, proven: ProvenData, lease: string, seen: Found<BlobRecord> | undefined): Promise<boolean> {
    const { size, diffId } = proven
    const known = diffId ?? seen?.value?.diffId
    const holders = seen?.damage ? await this.#leases.liveIds() : (seen?.value?.holders ?? [])
    const record: BlobRecord = {
      ...('pieces' in proven && countOf(proven.pieces) > 1
        ? { pieces: [...proven.pieces] }
        : { data: firstOf(proven)! }),
      size,
      ...(known ? { diffId: known } : {}),
      holders: [...new Set([...holders, lease])],
    }
    const pending: BlobRecord = { ...record, pending: true }
    const etag = await this.#records.write(key, pending, seen)
    if (etag === undefined) return false
    if (await this.#isLive(lease))
      return (await this.#records.write(key, record, { value: pending, etag })) !== undefined
    // What was damaged is whole now, and images may have it.
    if (!seen?.damage) await this.#records.retire(key, { value: pending, etag })
    interrupted(lease)
  }

  /**
   * Adds the holder if there is a record that counts and has bytes; `seen` is what was there
   * otherwise, to be written over. Leases that come at the same time are added in one write: each
   * of sixteen pushes of one layer would else write over the other fifteen.
   */
  async #hold(key: string, lease: string): Promise<Held> {
    const found = await this.#holding.run(key, lease, (leases) => this.#holdAll(key, leases))
    if (found.held && !(await this.#isLive(lease))) interrupted(lease)
    return found
  }

  async #holdAll(key: string, leases: ReadonlySet<string>): Promise<Held> {
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const seen = await this.#records.look(key)
      if (!seen?.value) return { held: undefined, seen }
      const { pending, ...record } = seen.value
      const maker = makerOf(record)
      if (pending && !(maker !== undefined && (await this.#leases.mayLive(maker)))) return { held: undefined, seen }
      let { etag } = seen
      const known = new Set(record.holders)
      if (pending || ![...leases].every((lease) => known.has(lease))) {
        const left = await this.#leases.holdersLeft(record.holders, leases.size)
        record.holders = [...new Set([...left, ...leases])]
        const written = await this.#records.write(key, record, seen)
        if (written === undefined) continue
        etag = written
      }
      if ((await this.storedBytes(record)) !== undefined) return { held: record, seen: undefined }
      return { held: undefined, seen: { value: record, etag } }
    }
    throw changedTooOften(key)
  }

  async #isLive(lease: string): Promise<boolean> {
    return (await this.#leases.get(lease)) !== undefined
  }
}

/** Checks what a caller says of its bytes, as far as that is possible without reading them. */
function checkProven(digest: Digest, proven: ProvenData, lease: string): void {
  const pieces = seriesOf(proven)
  if (pieces.length > MAX_SERIES || countOf(pieces) > MAX_PIECES)
    throw new StrataError(
      'limit_exceeded',
      `the blob ${digest} has come in ${countOf(pieces)} pieces, in ${pieces.length} series of one size each; at most ${MAX_PIECES} can be kept, in ${MAX_SERIES} series: send larger ones`,
    )
  const isOwn = pieces.length > 0 && pieces.every(({ data }) => leaseInKey(data) === lease)
  if (!isOwn || sizeOf(pieces) !== proven.size)
    throw new StrataError('internal', `the pieces given for blob ${digest} are not the bytes of upload ${lease}`)
}

function verify(digest: Digest, bytes: Uint8Array, code: 'corrupt' | 'digest_mismatch' = 'digest_mismatch'): void {
  const actual = digestOf(bytes, algorithmOf(digest))
  if (digest !== actual) throw new StrataError(code, `blob ${digest} has bytes with the digest ${actual}`)
}
