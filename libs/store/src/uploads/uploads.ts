import { randomUUID } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { asStrataError, failpoint, Serial, StrataError } from '@strata/base'
import { beginHash, continueHash, type ContinuedHash } from '@strata/linux'
import { algorithmOf, digestFromHex, type Digest, type Repository } from '@strata/oci'
import { eachPiece, MAX_PIECES, withPiece, type PieceSeries } from '../blobs/blob-record.js'
import { BlobStore } from '../blobs/blobs.js'
import { freshDataKey, numberedDataKey } from '../keys.js'
import { Leases, type Lease, type LeaseRun } from '../leases/leases.js'
import { lentChunks } from '../objects/lent-chunks.js'
import type { ObjectStore } from '../objects/object-store.js'
import type { RepositoryBlobs } from '../repositories/repository-blobs.js'
import { hasAllChunks, tooManyChunks } from './chunk-limits.js'
import { PushHolds } from './push-holds.js'
import type { PushTimes } from './push-times.js'
import { TooLarge, UploadBody } from './upload-body.js'
import { bytesOf, newUpload, takenOver, uploadIn, type UploadRecord } from './upload-record.js'

/**
 * How often a process that receives a chunk renews the upload's lease: ten times as often as it
 * has to, but not more often than that.
 */
const [TOUCHES, MOST_TOUCH_MS] = [10, 30_000]

/**
 * Bytes that were read back are hashed so many at a time, in a turn of the event loop, of all
 * uploads together. S3 gives them in 4 MiB, whose hash would stop the process for 10 ms.
 */
const HASHED_A_TURN = 256 * 1024

export interface UploadLimits extends PushTimes {
  /** How many bytes a blob may have. */
  readonly bytes: number
  /**
   * Runs work that reads bytes back without a chunk. It may refuse it: the process has a limit of
   * such work.
   */
  readonly readingBack?: <T>(work: () => Promise<T>) => Promise<T>
  /** Gets the bytes of each upload that was read back, for metrics. */
  readonly onReadBack?: (bytes: number) => void
}

/** A chunk. What it says of itself is checked. */
export interface Chunk {
  readonly source: AsyncIterable<Uint8Array>
  /**
   * The offset at which it says that it begins. Without it, the chunk follows what was received.
   */
  readonly start?: number | undefined
  /** How many bytes it says that it has. */
  readonly length?: number | undefined
}

export interface UploadStatus {
  readonly id: string
  /** Bytes that have come, from the first. */
  readonly bytes: number
}

/**
 * Uploads of a registry (distribution-spec, "Pushing blobs"): a blob comes in one request or in
 * several, to any process. An upload is a lease of the kind `push`; decision 85 has its states, and
 * what a crash at each line leaves.
 *
 * Laws
 * - **Each byte is received, hashed and written once.** A chunk is a piece of the blob, however
 *   small it is, and finishing moves no bytes. If the hash could not be kept, the bytes are read back once
 *   (`rehashed` counts them).
 * - **What was answered is there.** A chunk counts when it is recorded, by compare-and-set. A body
 *   that breaks off is a shorter chunk.
 * - **The last request wins.** A request that changes an upload supersedes one that still sends.
 *   That one records nothing, and gets `upload_interrupted`. A request that cannot change it, as
 *   its range shows, supersedes none.
 * - **An upload becomes at most one blob.** Its digest is recorded before the blob is.
 * - **A blob that was answered stays** for `holdMs` at least, less a sixtieth of it (`PushHolds`),
 *   whether it was sent, mounted, or asked for (`keep`). Until then a manifest has to refer to it.
 *
 * ```ts
 * const { id } = await uploads.begin(repository)
 * await uploads.append(repository, id, { source, start: 0 })
 * await uploads.finish(repository, id, digest)      // the repository has the blob
 * ```
 *
 * Every method that takes an id throws `upload_not_found` if the repository has no such upload.
 */
export class Uploads {
  readonly #blobs: BlobStore
  readonly #leases: Leases
  readonly #holds: PushHolds
  readonly #turns = new Serial()
  #rehashed = 0

  constructor(
    private readonly store: ObjectStore,
    private readonly repositoryBlobs: RepositoryBlobs,
    private readonly limits: UploadLimits,
  ) {
    this.#blobs = new BlobStore(store)
    this.#leases = new Leases(store)
    this.#holds = new PushHolds(this.#leases, limits.holdMs)
  }

  /** Chunks of so many bytes are large enough for the largest blob. Smaller ones are taken, too. */
  get chunkBytes(): number {
    return Math.ceil(this.limits.bytes / MAX_PIECES)
  }

  /** Bytes that this process has read back, to hash them once more. */
  get rehashed(): number {
    return this.#rehashed
  }

  async begin(repository: Repository, algorithm: UploadRecord['algorithm'] = 'sha256'): Promise<UploadStatus> {
    const id = randomUUID()
    await this.#leases.create(id, { job: { kind: 'push', id }, request: newUpload(repository, algorithm) })
    return { id, bytes: 0 }
  }

  async status(repository: Repository, id: string): Promise<UploadStatus> {
    return { id, bytes: bytesOf(uploadIn(await this.#look(id), repository, id)) }
  }

  /**
   * Takes a chunk in.
   * @throws StrataError `range_invalid` if it does not begin where the upload ends, or has another
   * length than it says; `limit_exceeded`; `upload_interrupted`; what its source throws, and then
   * the bytes that were received are kept
   */
  async append(repository: Repository, id: string, chunk: Chunk): Promise<UploadStatus> {
    const check = (lease: Lease, upload: UploadRecord): void => {
      if (lease.state !== 'receiving')
        throw new StrataError(
          'upload_not_found',
          `upload ${id} is finished as ${String(upload.digest)}: begin another one`,
        )
      this.#expectNext(upload, chunk)
    }
    const { run, upload } = await this.#take(repository, id, check)
    const { next, failure } = await this.#receive(run, upload, chunk, this.#continued(upload))
    await this.#record(run, upload, next)
    failpoint('push.chunk-recorded', id)
    if (failure !== undefined) throw failure
    return { id, bytes: bytesOf(next) }
  }

  /**
   * Takes the last chunk in, if there is one, and makes the upload the blob of this digest.
   * @param signal ends the reading of bytes whose hash was not kept
   * @throws as `append`; `digest_mismatch`, and then the upload is as before
   */
  async finish(repository: Repository, id: string, digest: Digest, chunk?: Chunk, signal?: AbortSignal): Promise<void> {
    const check = (lease: Lease, upload: UploadRecord): void => {
      if (lease.state !== 'committing') {
        if (chunk) this.#expectNext(upload, chunk)
        else expectDigest(digest, this.#kept(upload, algorithmOf(digest)))
      } else if (upload.digest !== digest)
        throw new StrataError('digest_mismatch', `upload ${id} is finished as ${String(upload.digest)}, not ${digest}`)
    }
    const { run, lease, upload } = await this.#take(repository, id, check)
    if (lease.state !== 'committing') await this.#close(run, upload, digest, chunk, signal)
    const { pieces } = uploadIn(await this.#look(id), repository, id)
    await this.#commit(repository, digest, pieces, id)
    await this.#leases.endBy(run, 'done')
    failpoint('push.upload-ended', id)
    await this.#blobs.deleteUnused(id, [digest])
  }

  /**
   * Ends the upload, and deletes what came.
   * @throws StrataError `upload_interrupted` if another request has taken it over meanwhile
   */
  async cancel(repository: Repository, id: string): Promise<void> {
    const { run, upload } = await this.#take(repository, id)
    // Who takes the lease over from here on finds no upload in it. So nobody makes its bytes a blob
    // any more, and only the digest that is recorded can have them: no other blob is looked at.
    await this.#leases.update(run, (lease) => ({ ...lease, request: {} }))
    await this.#leases.endBy(run, 'failed')
    await this.#blobs.deleteUnused(id, upload.digest === undefined ? [] : [upload.digest])
  }

  /**
   * A blob in one request.
   * @throws as `finish`; nothing of it stays then
   */
  async put(repository: Repository, digest: Digest, chunk: Chunk): Promise<void> {
    const { id } = await this.begin(repository, algorithmOf(digest))
    try {
      await this.finish(repository, id, digest, chunk)
    } catch (error) {
      await this.cancel(repository, id).catch(() => undefined)
      throw error
    }
  }

  /**
   * Adds to the repository a blob that the repository `from` has; without `from`, any blob of the
   * store. `false`: there is no such blob.
   */
  async mount(repository: Repository, digest: Digest, from: Repository | undefined): Promise<boolean> {
    if (from !== undefined && !(await this.repositoryBlobs.has(from, digest))) return false
    return this.#holds.hold(async (lease) => {
      if (!(await this.#blobs.hold(digest, lease))) return false
      await this.repositoryBlobs.add(repository, [digest], lease)
      return true
    })
  }

  /**
   * Keeps a blob of the repository for a client that is told that it is there: the client will not
   * send it, and put a manifest of it. `holders`: those that the blob and the repository's key were
   * seen with; if this process' hold is among them, nothing is asked of the store. `false`: the
   * repository does not have the blob any more.
   */
  async keep(repository: Repository, digest: Digest, holders: readonly string[]): Promise<boolean> {
    return this.#holds.hold(async (lease) => {
      if (holders.includes(lease)) return true
      if (!(await this.#blobs.hold(digest, lease))) return false
      const missing = await this.repositoryBlobs.add(repository, [digest], lease, { onlyIfHad: true })
      return missing.length === 0
    })
  }

  async #look(id: string) {
    return isUploadId(id) ? this.#leases.get(id) : undefined
  }

  /** Takes the upload over, if `check` throws nothing. */
  async #take(
    repository: Repository,
    id: string,
    check: (lease: Lease, upload: UploadRecord) => void = () => undefined,
  ) {
    // Looked at first: a lease of something else is not to be taken over, and a request that is
    // refused must not end the one that sends. It may change until it is taken over.
    const seen = await this.#look(id)
    const before = uploadIn(seen, repository, id)
    if (seen) check(seen, before)
    const { run, lease } = await this.#leases.begin(id, takenOver).catch((error: unknown) => {
      throw gone(error, repository, id)
    })
    const upload = uploadIn(lease, repository, id)
    check(lease, upload)
    return { run, lease, upload }
  }

  /**
   * Refuses what can be refused before a byte of the chunk is read.
   * @throws StrataError `range_invalid`, `limit_exceeded`
   */
  #expectNext(upload: UploadRecord, { start, length = 0 }: Chunk): void {
    const at = bytesOf(upload)
    if (start !== undefined && start !== at)
      throw new StrataError(
        'range_invalid',
        `the chunk begins at ${start}, and the upload is at ${at}: send what follows`,
      )
    // One whose length is not known may be empty, which is no further chunk: `#receive` sees it.
    if (length > 0 && hasAllChunks(upload)) throw tooManyChunks(upload)
    if (at + length > this.limits.bytes) throw this.#tooLarge()
  }

  #tooLarge(): StrataError {
    return new StrataError(
      'limit_exceeded',
      `a blob may have ${this.limits.bytes} bytes (STRATA_MAX_BLOB_BYTES), and this one has more`,
    )
  }

  /** Records what the upload becomes, with its last chunk. */
  async #close(
    run: LeaseRun,
    upload: UploadRecord,
    digest: Digest,
    chunk: Chunk | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const algorithm = algorithmOf(digest)
    const hash = this.#kept(upload, algorithm) ?? (await this.#rehash(run, upload, algorithm, chunk, signal))
    const received = chunk && (await this.#receive(run, upload, chunk, hash))
    if (received?.failure !== undefined) {
      await this.#record(run, upload, received.next)
      throw received.failure
    }
    const next = received?.next ?? upload
    try {
      expectDigest(digest, hash)
    } catch (error) {
      if (received) await this.store.delete([keyOfChunk(run, upload)])
      throw error
    }
    const { repository, takes } = upload
    // A blob of no bytes is an object, too.
    const pieces = next.pieces.length > 0 ? next.pieces : [{ data: await this.#putNothing(run.lease), size: 0 }]
    await this.#change(run, upload, pieces, (lease) => ({
      ...lease,
      state: 'committing',
      request: { repository, algorithm: upload.algorithm, takes, pieces, digest },
    }))
    failpoint('push.committing', run.lease)
  }

  async #commit(repository: Repository, digest: Digest, pieces: readonly PieceSeries[], id: string): Promise<void> {
    await this.#blobs.commit(digest, { pieces, size: bytesOf({ pieces }) }, id)
    failpoint('push.committed', id)
    await this.#holds.hold(async (lease) => {
      if (!(await this.#blobs.hold(digest, lease)))
        throw new StrataError('internal', `blob ${digest} is gone right after it was committed`)
      await this.repositoryBlobs.add(repository, [digest], lease)
    })
    failpoint('push.held', id)
  }

  async #putNothing(lease: string): Promise<string> {
    const data = freshDataKey(lease)
    await this.store.put(data, new Uint8Array())
    return data
  }

  /** Writes a chunk, and says what the upload is with it. Nothing is recorded yet. */
  async #receive(
    run: LeaseRun,
    upload: UploadRecord,
    { source, length }: Chunk,
    hash: ContinuedHash | undefined,
  ): Promise<{ readonly next: UploadRecord; readonly failure: Error | undefined }> {
    const data = keyOfChunk(run, upload)
    const isFull = hasAllChunks(upload)
    const body = new UploadBody(source, isFull ? 0 : this.limits.bytes - bytesOf(upload), hash)
    await this.#beating(run, (signal) => this.store.put(data, body.bytes(), { signal }))
    const { size, failure } = body
    const isLie = failure === undefined && length !== undefined && length !== size
    if (size === 0 || isLie || failure instanceof TooLarge) {
      await this.store.delete([data])
      if (isLie) throw new StrataError('range_invalid', `the chunk has ${size} bytes, and says that it has ${length}`)
      if (failure instanceof TooLarge && isFull) throw tooManyChunks(upload)
      if (failure instanceof TooLarge) throw this.#tooLarge()
      return { next: upload, failure }
    }
    const saved = hash?.algorithm === upload.algorithm ? hash.save() : undefined
    const { repository, algorithm, takes } = upload
    const pieces = withPiece(upload.pieces, { data, size })
    const next = { repository, algorithm, takes, pieces, ...(saved ? { hash: saved } : {}) }
    return { next, failure }
  }

  /** Runs long work. The lease lives meanwhile; if it is taken over, the signal aborts. */
  async #beating<T>(run: LeaseRun, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const stop = new AbortController()
    const beat = setInterval(
      () => {
        this.#leases.touch(run).catch((error: unknown) => {
          if (asStrataError(error).code === 'upload_interrupted') stop.abort(error)
        })
      },
      Math.min(this.limits.expiryMs / TOUCHES, MOST_TOUCH_MS),
    )
    try {
      return await work(stop.signal)
    } catch (error) {
      throw stop.signal.aborted ? stop.signal.reason : error
    } finally {
      clearInterval(beat)
    }
  }

  async #record(run: LeaseRun, before: UploadRecord, next: UploadRecord): Promise<void> {
    await this.#change(run, before, next.pieces, (lease) => ({ ...lease, request: next }))
  }

  /**
   * Changes the record of the upload, which then has these pieces. If another request has taken it
   * over, what is new of them is deleted: until the upload ends, nobody else would do that. But not
   * without a look. The record may have been written, and the store's answer lost.
   */
  async #change(
    run: LeaseRun,
    { repository, pieces: before }: UploadRecord,
    pieces: readonly PieceSeries[],
    change: (lease: Lease) => Lease,
  ): Promise<void> {
    try {
      await this.#leases.update(run, change)
    } catch (error) {
      if (!isCode(error, 'upload_interrupted')) throw error
      const now = await this.#look(run.lease)
      // The bytes of an upload that is over are deleted by whoever has ended it, or a collection.
      if (now?.job.kind !== 'push') throw error
      const { pieces: recorded } = uploadIn(now, repository, run.lease)
      const named = new Set([...eachPiece(before), ...eachPiece(recorded)].map(({ data }) => data))
      await this.store.delete(eachPiece(pieces).flatMap(({ data }) => (named.has(data) ? [] : [data])))
      throw error
    }
  }

  /** The hash of what came, if it was kept. */
  #continued({ algorithm, pieces, hash }: UploadRecord): ContinuedHash | undefined {
    return pieces.length === 0 ? beginHash(algorithm) : hash && continueHash(algorithm, hash, bytesOf({ pieces }))
  }

  /** The same, if it is of this algorithm. */
  #kept(upload: UploadRecord, algorithm: UploadRecord['algorithm']): ContinuedHash | undefined {
    if (upload.pieces.length === 0) return beginHash(algorithm)
    return algorithm === upload.algorithm ? this.#continued(upload) : undefined
  }

  /** The hash of the bytes as they are stored. */
  async #rehash(
    run: LeaseRun,
    upload: UploadRecord,
    algorithm: UploadRecord['algorithm'],
    chunk: Chunk | undefined,
    signal: AbortSignal | undefined,
  ): Promise<ContinuedHash> {
    const read = async (taken: AbortSignal): Promise<ContinuedHash> => {
      const hash = beginHash(algorithm)
      for (const { data, size } of eachPiece(upload.pieces)) {
        const object = await this.store.get(data)
        if (object?.size !== size)
          throw new StrataError('corrupt', `the upload lacks its bytes ${data}: begin another one`)
        for await (const bytes of lentChunks(object.body)) {
          taken.throwIfAborted()
          if (signal?.aborted)
            throw new StrataError('upload_interrupted', 'the client has gone before its upload was finished')
          await this.#hashInTurns(hash, bytes)
        }
        this.#rehashed += size
      }
      this.limits.onReadBack?.(bytesOf(upload))
      return hash
    }
    const work = (): Promise<ContinuedHash> => this.#beating(run, read)
    // A chunk is in the limit of its process already.
    return chunk ? work() : (this.limits.readingBack?.(work) ?? work())
  }

  async #hashInTurns(hash: ContinuedHash, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += HASHED_A_TURN)
      await this.#turns.run(async () => {
        hash.update(bytes.subarray(at, at + HASHED_A_TURN))
        await setImmediate()
      })
  }
}

/** No other request has this number (`takenOver`). */
function keyOfChunk({ lease }: LeaseRun, { takes }: UploadRecord): string {
  return numberedDataKey(lease, takes)
}

/** @throws StrataError `digest_mismatch` */
function expectDigest(digest: Digest, hash: ContinuedHash | undefined): void {
  const found = hash && digestFromHex(hash.hex())
  if (found !== undefined && found !== digest)
    throw new StrataError('digest_mismatch', `the upload has the digest ${found}, not ${digest}`)
}

/** As `randomUUID` makes them. */
function isUploadId(id: string): boolean {
  return /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id)
}

function isCode(error: unknown, code: StrataError['code']): boolean {
  return error instanceof StrataError && error.code === code
}

/** A lease that has ended is an upload that is not there. */
function gone(error: unknown, repository: Repository, id: string): unknown {
  return isCode(error, 'upload_interrupted')
    ? new StrataError('upload_not_found', `${repository} has no upload ${id}: begin another one`, { cause: error })
    : error
}
