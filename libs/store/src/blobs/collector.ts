import { statSync } from 'node:fs'
import { failpoint, StrataError } from '@strata/base'
import { type Digest, type DiffId } from '@strata/oci'
import { piecesOf, type BlobRecord } from './blob-record.js'
import { BlobStore, type DamagedBlob, type ListedBlob } from './blobs.js'
import { Sums, type StoreCollection, type Tally } from './collection-sums.js'
import { batches, inTurns } from './in-turns.js'
import { KeySet } from './key-set.js'
import { NamedByRecords } from './named-by-records.js'
import { DELETED_AT_ONCE, ObjectDeletes } from './object-deletes.js'
import { PackedList } from './packed-list.js'
import { keepUnreadable, Needed, type RepositoryKeys, type Told, type Unreadable } from './unreadable.js'
import { digestInKey, keys, PREFIX, leaseInKey } from '../keys.js'
import {
  conditionalRemove,
  listAll,
  localObjects,
  partialUploads,
  type Etag,
  type ListedObject,
  type ObjectStore,
  type PartialUpload,
} from '../objects/object-store.js'
import { recordBytes, TOMBSTONE_BYTES } from '../records.js'
import { Leases } from '../leases/leases.js'
import { RepositoryBlobs, type ListedRepositoryBlob } from '../repositories/repository-blobs.js'
import { RepositoryNames, type ListedRepository } from '../repositories/repository-names.js'

export interface CollectOptions {
  /**
   * Gives every blob that something visible refers to. It is called once, at its place in the
   * protocol. It may give a blob twice. It must not leave one out: it reports what it cannot read
   * (`Told.unreadable`), or throws.
   */
  readonly references: (told: Told) => AsyncIterable<Digest>
  readonly dryRun: boolean
  readonly signal?: AbortSignal
}

export interface Collected {
  readonly report: StoreCollection
  /**
   * The diffIDs of the layers whose indexes were deleted. A caller that keeps something else by
   * these diffIDs may delete it too.
   */
  readonly indexes: readonly DiffId[]
  /** What could not be read. What it may refer to has stayed. */
  readonly unreadable: readonly Unreadable[]
}

/** How many objects are worked on at the same time. */
const AT_ONCE = 16

/**
 * Finds and deletes what nothing needs. Any number of collections may run at once, beside any
 * number of leases and removals. Each may die at any line: the next one does the rest.
 *
 * **Blobs** go by the protocol of BlobStore (store-model.ts tries every interleaving):
 *  1. all blob records are listed, each with its ETag;
 *  2. *then* the live leases;
 *  3. *then* everything that is referred to is read;
 *  4. a record that nothing refers to and no live lease holds becomes a tombstone *if its ETag is
 *     still that of step 1*; only then its bytes are deleted.
 *
 * A step keeps its list for a later step as packed text (`PackedList`) or as a set of digests of
 * keys (`KeySet`). So a collection takes some 400 bytes of memory a blob.
 *
 * A writer that needs a blob holds it for a lease that lives until a name makes the reference
 * visible. If the hold came after step 1, it changed the record, and step 4 fails. If it came
 * before and the lease lives in step 2, the blob stays. If the lease ended before step 2, its name
 * was visible before step 3. A hold that finds the tombstone treats the blob as absent. The record
 * ends before the bytes are deleted. A collector that dies in between leaves bytes without a
 * record: the next paragraph is about those.
 *
 * **Data** (`data/<lease>/…`, keys that are never written again) that no record names goes in the
 * order data, *then* live leases, *then* records. (What a record of step 1 names is not listed: it
 * stays, unless step 4 found the record changed.) A record that names data counts only if it was
 * there while the lease that wrote the data lived (BlobStore, "in two steps"). So what belongs to
 * no live lease and is in no record read after that is in none that will ever count.
 *
 * **Indexes** (`index/v1/<diffID>`) that no record names go in the order indexes, *then* records.
 * They have no holders and no tombstones, also on S3, because nothing is lost with an index: it
 * follows from the layer, its key always has the same content, and a process that needs a missing
 * index makes it again (`extract`). So an absent index is never an error. Each race that is left
 * ends with an index that is absent until it is next needed, whatever the order of its writes and
 * deletes:
 *   - a lease under way has made it, and no record of the layer is there yet (the layer is then
 *     indexed once more, by `extract`);
 *   - a load finds the index of a layer that was removed before and does not make it, while this
 *     run, which listed the records earlier, deletes it.
 *
 * **Checkpoints** (`checkpoints/v2/<blob>`) of a blob without a record go in the same way: they
 * follow from the blob, and a reader without them unpacks the blob from its beginning.
 *
 * **Partial uploads** (S3's unfinished multipart uploads, `data/…` too) of no live lease are
 * aborted, in the order partial uploads, *then* live leases: a lease's record exists before the
 * first byte of its data.
 *
 * **Marks of used ids** (`UsedIds`), on a store that deletes on a condition, go in the order marks,
 * *then* live leases, *then* data, *then* blob records: a mark is made after its lease's record,
 * so a lease that does not live in the second step has ended, and all of its data are seen after
 * that. While the record of a lease is damaged all marks stay: any may be of its request. The mark
 * of a request stays for as long as a blob has bytes of its lease.
 *
 * **Repositories' keys** go in the order keys, *then* live leases, *then* references, each if it
 * has not changed (`RepositoryBlobs`, `RepositoryNames`).
 *
 * **Damaged records** are never guessed at. The damaged record of a blob is retired only if nothing
 * refers to the blob and no lease lives, since any lease may hold it. While one stays, no data
 * without a record are deleted. A lease whose record is damaged counts as live.
 *
 * **What cannot be deleted** now (`ObjectDeletes`) stays, without a record. The next collection
 * finds it as data that no record names.
 *
 * **What cannot be read** (`Unreadable`: a manifest whose bytes are gone or damaged, the record of
 * a name) keeps everything that it may refer to. A manifest of a repository keeps the blobs that
 * the repository has keys of: the client that put the manifest added these keys. If it is not
 * certain that these keys exist, no blob is retired. All else is collected, and the result reports
 * it.
 *
 * **Tombstones** of names, on a store that deletes tombstones, were made by a writer that was about
 * to set a name (`Records.findToWrite`). Each is deleted if it has not changed. A writer that then
 * writes over it fails, and begins again.
 *
 * **Tombstones of leases** are left by a process that ended a lease and died before it deleted the
 * record. Their keys are never used again, so they are deleted. Ended holders are removed from the
 * records that stay. Otherwise the record of a layer that is loaded every hour would grow without
 * bound.
 */
export class Collector {
  readonly #blobs: BlobStore
  readonly #leases: Leases
  readonly #repositoryBlobs: RepositoryBlobs
  readonly #repositoryNames: RepositoryNames

  constructor(private readonly store: ObjectStore) {
    this.#blobs = new BlobStore(store)
    this.#leases = new Leases(store)
    this.#repositoryBlobs = new RepositoryBlobs(store)
    this.#repositoryNames = new RepositoryNames(store)
  }

  /**
   * @throws what `references` throws (then nothing was deleted), `store_unavailable`, and the
   * signal's reason
   */
  async collect(options: CollectOptions): Promise<Collected> {
    const sum = new Sums()
    const deletes = new ObjectDeletes(this.store)
    const marks = await this.#usedMarks(options)
    const repositories = await this.#listRepositories(options)
    const found = await this.#collectBlobs(options, repositories, !marks.isEmpty, deletes, sum)
    const { named, live, requests, unreadable } = found
    const ended = await this.#collectRepositories(options, repositories, live, sum)
    const { indexes, inUse } = await this.#collectUnnamed(options, named, deletes, sum)
    if (requests)
      await this.#collectUsedMarks(options, marks, (id) => live.has(id) || requests.has(id) || inUse(id), sum)
    await this.#collectEndedLeases(options, deletes, sum)
    await this.#collectTombstonesOfNames(options, sum)
    const report = sum.report(await this.#tombstones(options, options.dryRun ? named.doomed.size + ended : 0))
    return { report, indexes, unreadable }
  }

  async #listRepositories({ signal }: CollectOptions): Promise<RepositoryKeys> {
    const names = new PackedList<ListedRepository>()
    const blobs = new PackedList<ListedRepositoryBlob>()
    const had = new Needed()
    for await (const name of inTurns(this.#repositoryNames.list(), signal)) {
      names.push(name)
      had.list(keys.repository(name.repository))
    }
    for await (const blob of inTurns(this.#repositoryBlobs.list(), signal)) {
      blobs.push(blob)
      had.list(blob.key)
    }
    return { names, blobs, had }
  }

  /**
   * Gives what the records name that stayed as they were listed, the live leases and their requests
   * (`undefined` if one of these is not known, or `areRequestsWanted` is false).
   */
  async #collectBlobs(
    options: CollectOptions,
    repositories: RepositoryKeys,
    areRequestsWanted: boolean,
    deletes: ObjectDeletes,
    sum: Sums,
  ): Promise<{
    named: NamedByRecords
    live: Set<string>
    requests: Set<string> | undefined
    unreadable: Unreadable[]
  }> {
    const { references, dryRun, signal } = options
    const listed = new PackedList<ListedBlob>()
    const damaged = new PackedList<DamagedBlob>()
    const referred = new Needed()
    const onDamaged = (blob: DamagedBlob): void => {
      damaged.push(blob)
      referred.list(blob.digest)
    }
    for await (const blob of inTurns(this.#blobs.list({ onDamaged }), signal)) {
      listed.push(blob)
      referred.list(blob.digest)
    }
    failpoint('collect.blobs-listed')
    // A lease's record is read only for the sake of its request.
    const live = areRequestsWanted ? new Set<string>() : await this.#leases.liveIds()
    const requests = new Set<string>()
    let areAllKnown = areRequestsWanted
    if (areRequestsWanted) {
      const onDamagedLease = ({ id }: { readonly id: string }): void => {
        live.add(id)
        areAllKnown = false
      }
      for await (const { id, job } of this.#leases.listLive({ onDamaged: onDamagedLease })) {
        live.add(id)
        requests.add(job.id)
      }
    }
    failpoint('collect.uploads-listed')
    const unreadable: Unreadable[] = []
    const told: Told = {
      had: (repository, digest) => {
        repositories.had.add(keys.repository(repository))
        repositories.had.add(keys.repositoryBlob(repository, digest))
      },
      unreadable: (one) => unreadable.push(one),
    }
    for await (const digest of inTurns(references(told), signal)) referred.add(digest)
    failpoint('collect.references-read')
    const isAnyReferred = await keepUnreadable(unreadable, repositories, referred, signal)

    const doomed = new KeySet()
    const changed = new KeySet()
    await each(listed, signal, async (blob) => {
      const { digest, record } = blob
      const holders = record.holders.filter((lease) => live.has(lease))
      if (isAnyReferred || referred.has(digest) || holders.length > 0) {
        if (holders.length === record.holders.length) return
        const shorter = recordBytes(record) - recordBytes({ ...record, holders })
        if (dryRun || (await this.#pruned(this.#blobs.prune(blob, holders)))) sum.add('records', shorter)
        return
      }
      const there = await this.#objectsOf(record, signal)
      // Not as it was listed: somebody counts on it by now, or another collector was quicker.
      if (!dryRun && !(await this.#blobs.retire(blob))) {
        changed.add(digest)
        return
      }
      if (!dryRun) failpoint('collect.tombstoned')
      doomed.add(digest)
      sum.add('records', blob.recordSize - (this.#tombstonesStay ? TOMBSTONE_BYTES : 0))
      if (there.length === 0) return
      const gone = await this.#deleted(options, there, deletes, sum)
      const total = (of: 'size' | 'linked'): number => gone.reduce((bytes, object) => bytes + object[of], 0)
      sum.add('blobs', total('size'), total('linked'))
    })
    // Any lease may hold a blob whose record is damaged. Its bytes are deleted later, as data that
    // no record names.
    for await (const blob of inTurns(live.size === 0 && !isAnyReferred ? damaged : [], signal)) {
      if (referred.has(blob.digest) || (!dryRun && !(await this.#blobs.retire(blob)))) continue
      doomed.add(blob.digest)
      sum.add('records', blob.recordSize - (this.#tombstonesStay ? TOMBSTONE_BYTES : 0))
    }
    const named = new NamedByRecords(doomed, signal)
    for await (const blob of inTurns(listed, signal)) if (!changed.has(blob.digest)) await named.add(blob)
    return { named, live, requests: areAllKnown ? requests : undefined, unreadable }
  }

  /**
   * Ends the keys of what no manifest of their repository needs, and of repositories that have
   * nothing. Gives their number.
   */
  async #collectRepositories(
    { dryRun, signal }: CollectOptions,
    { names, blobs, had }: RepositoryKeys,
    live: ReadonlySet<string>,
    sum: Sums,
  ): Promise<number> {
    let ended = 0
    const end = (size: number): void => {
      ended++
      sum.add('records', size - left)
    }
    const left = this.#tombstonesStay ? TOMBSTONE_BYTES : 0
    await each(blobs, signal, async (blob) => {
      const holders = blob.holders.filter((lease) => live.has(lease))
      if (holders.length === 0 && !had.has(blob.key)) {
        if (dryRun || (await this.#repositoryBlobs.retire(blob))) end(blob.size)
        return
      }
      had.add(keys.repository(blob.repository))
      if (holders.length === blob.holders.length) return
      const shorter = recordBytes({ holders: blob.holders }) - recordBytes({ holders })
      if (dryRun || (await this.#pruned(this.#repositoryBlobs.prune(blob, holders)))) sum.add('records', shorter)
    })
    await each(names, signal, async ({ repository, etag, size }) => {
      if (had.has(keys.repository(repository))) return
      if (dryRun || (await this.#repositoryNames.retire(repository, etag))) end(size)
    })
    return ended
  }

  /**
   * To remove holders is a write. If the disk is full, the record stays as it is, and the
   * collection goes on with what frees space.
   */
  async #pruned(pruning: Promise<boolean>): Promise<boolean> {
    return pruning.catch((error: unknown) => {
      if (error instanceof StrataError && error.code === 'storage_full') return false
      throw error
    })
  }

  /**
   * Data and indexes that no record names. Gives the diffIDs of those indexes, and whether bytes of
   * an ended lease stay.
   */
  async #collectUnnamed(
    options: CollectOptions,
    named: NamedByRecords,
    deletes: ObjectDeletes,
    sum: Sums,
  ): Promise<{ indexes: DiffId[]; inUse: (lease: string) => boolean }> {
    const { signal } = options
    const data = await this.#listUnless(named.hasData, PREFIX.data, signal)
    const indexes = await this.#listUnless(named.hasDerived, PREFIX.indexes, signal)
    const checkpoints = await this.#listUnless(named.hasDerived, PREFIX.checkpoints, signal)
    const live = await this.#leases.liveIds()
    let areDataKnown = true
    const onDamaged = ({ digest }: DamagedBlob): void => {
      if (named.doomed.has(digest)) return
      // Where the bytes of a damaged record are is not known: any may be its own.
      areDataKnown = false
      named.addCheckpoints(digest)
    }
    const isKnown = (digest: Digest, etag: Etag): boolean => {
      signal?.throwIfAborted()
      return named.hasRecord(digest, etag)
    }
    for await (const blob of inTurns(this.#blobs.list({ isKnown, onDamaged }), signal)) await named.add(blob)
    await this.#collectPartial(options, sum)
    const isUnnamed = ({ key }: ListedObject): boolean =>
      areDataKnown && !named.hasData(key) && !live.has(leaseInKey(key) ?? '') && !deletes.undeleted.has(key)
    for await (const some of batches(data, DELETED_AT_ONCE, signal, isUnnamed)) {
      const unnamed = some.map(({ key, size }) => ({ key, size, linked: this.#linkedIn(key, size) }))
      for (const { size, linked } of await this.#deleted(options, unnamed, deletes, sum)) sum.add('data', size, linked)
    }
    const gone: DiffId[] = []
    for (const derived of [indexes, checkpoints])
      for await (const some of batches(derived, DELETED_AT_ONCE, signal, ({ key }) => !named.hasDerived(key))) {
        for (const { size } of await this.#deleted(options, some, deletes, sum)) sum.add('indexes', size)
        if (derived === indexes) gone.push(...some.map(({ key }) => digestInKey(key) as DiffId))
      }
    return { indexes: gone, inUse: (lease) => !areDataKnown || named.hasLease(lease) }
  }

  async #listUnless(
    isNamed: (key: string) => boolean,
    prefix: string,
    signal: AbortSignal | undefined,
  ): Promise<PackedList<ListedObject>> {
    const objects = new PackedList<ListedObject>()
    for await (const object of inTurns(listAll(this.store, prefix), signal))
      if (!isNamed(object.key)) objects.push(object)
    return objects
  }

  /**
   * The marks of used ids. If the store cannot delete on a condition, marks stay, so nothing is
   * listed.
   */
  async #usedMarks({ signal }: CollectOptions): Promise<PackedList<ListedObject>> {
    const marks = new PackedList<ListedObject>()
    const store = conditionalRemove(this.store)
    if (store)
      for await (const mark of inTurns(listAll(store, PREFIX.used), signal))
        if (mark.key !== keys.allUsedMarked) marks.push(mark)
    return marks
  }

  async #collectUsedMarks(
    { dryRun, signal }: CollectOptions,
    marks: PackedList<ListedObject>,
    isKept: (lease: string) => boolean,
    sum: Sums,
  ): Promise<void> {
    const store = conditionalRemove(this.store)
    await each(marks, signal, async ({ key, etag, size }) => {
      const request = key.slice(PREFIX.used.length)
      if (isKept(request) || isKept(await this.#leases.idOf(request))) return
      if (dryRun || (await store?.removeUnchanged(key, etag))) sum.add('records', size)
    })
  }

  async #collectPartial({ dryRun, signal }: CollectOptions, sum: Sums): Promise<void> {
    const store = partialUploads(this.store)
    if (!store) return
    const partial: PartialUpload[] = []
    for await (const one of inTurns(store.listPartial(), signal))
      if (leaseInKey(one.key) !== undefined) partial.push(one)
    const live = await this.#leases.liveIds()
    await each(
      partial.filter(({ key }) => !live.has(leaseInKey(key) ?? '')),
      signal,
      async (one) => {
        sum.add('partialUploads', await one.size())
        if (!dryRun) await one.abort()
      },
    )
  }

  async #collectEndedLeases(options: CollectOptions, deletes: ObjectDeletes, sum: Sums): Promise<void> {
    const ended = new PackedList<ListedObject>()
    for await (const lease of inTurns(listAll(this.store, PREFIX.leases), options.signal))
      if (lease.size === TOMBSTONE_BYTES) ended.push(lease)
    for await (const some of batches(ended, DELETED_AT_ONCE, options.signal))
      for (const { size } of await this.#deleted(options, some, deletes, sum)) sum.add('records', size)
  }

  async #collectTombstonesOfNames({ dryRun, signal }: CollectOptions, sum: Sums): Promise<void> {
    const store = conditionalRemove(this.store)
    if (!store) return
    for await (const { key, size, etag } of inTurns(listAll(store, PREFIX.images), signal))
      if (size === TOMBSTONE_BYTES && (dryRun || (await store.removeUnchanged(key, etag)))) sum.add('records', size)
  }

  /**
   * `more`: those that a dry run would make. Where tombstones are deleted, nothing is listed: none
   * stands but that of a name that is being written.
   */
  async #tombstones({ signal }: CollectOptions, more: number): Promise<Tally> {
    if (!this.#tombstonesStay) return { count: 0, bytes: 0 }
    let count = more
    let bytes = count * TOMBSTONE_BYTES
    const add = (size: number): void => {
      count++
      bytes += size
    }
    for (const prefix of [PREFIX.blobs, PREFIX.images, PREFIX.repositories, PREFIX.repositoryBlobs])
      for await (const { size } of inTurns(listAll(this.store, prefix), signal)) if (size === TOMBSTONE_BYTES) add(size)
    // A mark that names its lease is larger than a tombstone, and stays as one.
    for await (const { key, size } of inTurns(listAll(this.store, PREFIX.used), signal))
      if (key !== keys.allUsedMarked) add(size)
    return { count, bytes }
  }

  /** Deletes the objects, and gives those that are gone. Those that stayed are counted. */
  async #deleted<T extends Pick<ListedObject, 'key' | 'size'>>(
    { dryRun, signal }: CollectOptions,
    objects: readonly T[],
    deletes: ObjectDeletes,
    sum: Sums,
  ): Promise<readonly T[]> {
    if (dryRun) return objects
    await deletes.delete(
      objects.map(({ key }) => key),
      signal,
    )
    const isLeft = ({ key }: T): boolean => deletes.undeleted.has(key)
    for (const { size } of objects.filter(isLeft)) sum.add('undeleted', size)
    return objects.filter((object) => !isLeft(object))
  }

  get #tombstonesStay(): boolean {
    return conditionalRemove(this.store) === undefined
  }

  /** A blob's objects that exist. `linked`: of their bytes, those of files with another name. */
  async #objectsOf(
    record: BlobRecord,
    signal: AbortSignal | undefined,
  ): Promise<{ key: string; size: number; linked: number }[]> {
    const found: { key: string; size: number; linked: number }[] = []
    for await (const { data: key } of inTurns(piecesOf(record), signal)) {
      const info = await this.store.stat(key)
      if (info) found.push({ key, size: info.size, linked: this.#linkedIn(key, info.size) })
    }
    return found
  }

  #linkedIn(key: string, size: number): number {
    const path = localObjects(this.store)?.localPath(key)
    return path !== undefined && (statSync(path, { throwIfNoEntry: false })?.nlink ?? 0) > 1 ? size : 0
  }
}

async function each<T>(
  items: Iterable<T>,
  signal: AbortSignal | undefined,
  work: (item: T) => Promise<void>,
): Promise<void> {
  for await (const some of batches(items, AT_ONCE, signal)) await Promise.all(some.map(work))
}
