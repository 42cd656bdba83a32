import { dirname } from 'node:path'
import type { Readable } from 'node:stream'
import { asStrataError, step, StrataError } from '@strata/oci'
import { keys, listAll, type LocalObjects, type ObjectStore } from '@strata/store'
import { Body } from './body.js'
import type { Answer, LayerIndexed } from './messages.js'
import { LISTING_NAME, SMALL_NAME } from './placement.js'
import { RingWriter } from './ring.js'
import { WorkerPairs, type WorkerPair } from './worker-pairs.js'

export interface IntakeLimits {
  /** Entries of an archive. */
  readonly entries: number
  /** Bytes of an archive, unpacked. */
  readonly bytes: number
  /** How long a client may send nothing while it could. */
  readonly idleMs: number
}

export const INTAKE_LIMITS: IntakeLimits = { entries: 100_000, bytes: 2 ** 40, idleMs: 60_000 }

/** `bytes` as they travelled, so that they compare with a Content-Length. */
export interface IntakeProgress {
  readonly bytes: number
  readonly entries: number
}

export interface ReceiveOptions {
  /** A fresh id: no data of it may be there. */
  readonly upload: string
  readonly signal?: AbortSignal
  readonly limits?: Partial<IntakeLimits>
  /** At most five times a second, and once at the end. */
  readonly onProgress?: (progress: IntakeProgress) => void
}

export interface Received extends IntakeProgress {
  /** The key of the `ArchiveListing`. */
  readonly listing: string
}

export interface Intake {
  /**
   * Takes in an archive, plain or packed by gzip or zstd, as it comes: every file of it is hashed and written once, what is a plain tar is indexed in flight (`index/v1/…`),
   * and the list of all is written last. Memory is flat. The body is neither destroyed nor drained when it is refused.
   *
   * Rejects, with nothing of the upload left in the store: `archive_truncated`, `archive_invalid`, `unsupported` (a sparse file), `limit_exceeded`, `storage_full`,
   * `store_unavailable`, `upload_interrupted` (client gone or silent). An aborted `signal` rejects with its reason if that is a StrataError, else with `cancelled`.
   */
  receive(body: Readable, options: ReceiveOptions): Promise<Received>
  /** Ends the threads. Abort and await what is under way first. */
  close(): Promise<void>
}

const PROGRESS_MS = 200
const DEFAULT_PAIRS = 4

export function createIntake(options: { store: ObjectStore & LocalObjects; atOnce?: number }): Intake {
  const pairs = new WorkerPairs(options.atOnce ?? DEFAULT_PAIRS)
  return {
    receive: (body, receive) => new Reception(options.store, body, receive).run(pairs),
    close: () => pairs.close(),
  }
}

/** One archive's way in: the main thread fills the ring and minds the store, the pair does the work. */
class Reception {
  private readonly limits: IntakeLimits
  private readonly body: Body
  /** The first thing that goes wrong, whatever it is, ends everything else. */
  private readonly failure = new AbortController()
  private readonly stop: AbortSignal
  private readonly storing = new Set<Promise<void>>()
  private bytes = 0
  private plainBytes = 0
  private reportedAt = 0

  constructor(private readonly store: ObjectStore & LocalObjects, body: Readable, private readonly options: ReceiveOptions) {
    this.limits = { ...INTAKE_LIMITS, ...options.limits }
    this.body = new Body(body)
    this.stop = AbortSignal.any([this.failure.signal, this.body.interrupted, ...(options.signal ? [options.signal] : [])])
  }

  async run(pairs: WorkerPairs): Promise<Received> {
    try {
      const pair = await pairs.acquire(this.stop)
      try {
        return await this.claimed(pair)
      } finally {
        await pairs.release(pair)
      }
    } catch (error) {
      throw this.reason(error)
    }
  }

  /** The object of small files is made first, and making it twice fails: who has it owns all data of this upload, and may remove it. */
  private async claimed(pair: WorkerPair): Promise<Received> {
    const { upload } = this.options
    const small = await this.store.createLocal(keys.data(upload, SMALL_NAME))
    try {
      return await this.receive(pair, dirname(small))
    } catch (error) {
      const left: string[] = []
      for await (const { key } of listAll(this.store, keys.dataOf(upload))) left.push(key)
      await this.store.delete(left)
      throw error
    }
  }

  private async receive(pair: WorkerPair, folder: string): Promise<Received> {
    const ring = new RingWriter(pair.ring)
    const abort = (): void => ring.abort()
    this.stop.addEventListener('abort', abort)
    const answered = pair.run(
      { keyPrefix: keys.dataOf(this.options.upload), folder, entries: this.limits.entries },
      (index) => this.keepIndex(index, ring),
      (answer) => {
        if (answer.kind === 'failed') this.failure.abort(new StrataError(answer.code, answer.message))
      },
    )
    try {
      if (this.stop.aborted) abort()
      await this.fill(ring)
    } catch (error) {
      this.failure.abort(error)
    } finally {
      // Also after a failure: the pair is free, and its files are closed, only when both have answered.
      await answered
      await Promise.all(this.storing)
      this.stop.removeEventListener('abort', abort)
    }
    this.stop.throwIfAborted()
    return this.seal(await answered)
  }

  private async fill(ring: RingWriter): Promise<void> {
    await this.body.pump(
      (piece) => {
        this.plainBytes += piece.length
        if (this.plainBytes > this.limits.bytes) {
          this.failure.abort(new StrataError('limit_exceeded', `the archive has more than ${this.limits.bytes} bytes`))
          return undefined
        }
        return ring.write(piece)
      },
      (length) => {
        if (this.bytes === 0) step('load.first-bytes')
        this.bytes += length
        this.report(ring.entries, false)
      },
      this.limits.idleMs,
      this.stop,
    )
    if (this.plainBytes === 0) throw new StrataError('archive_invalid', 'the upload is empty')
    await ring.end()
  }

  private keepIndex({ diffId, bytes }: LayerIndexed, ring: RingWriter): void {
    const stored = this.store
      .create(keys.index(diffId), bytes)
      .then(() => undefined, (error: unknown) => this.failure.abort(error))
      .finally(() => {
        ring.indexStored()
        this.storing.delete(stored)
      })
    this.storing.add(stored)
  }

  private async seal(answers: Answer[]): Promise<Received> {
    const written = answers.find((answer) => answer.kind === 'written')
    const hashed = answers.find((answer) => answer.kind === 'hashed')
    if (!written || !hashed) throw new StrataError('internal', 'an intake worker gave no answer')
    const { upload } = this.options
    for (const name of [SMALL_NAME, ...written.large]) await this.store.sealLocal(keys.data(upload, name))
    const listing = keys.data(upload, LISTING_NAME)
    await this.store.put(listing, hashed.listing)
    this.stop.throwIfAborted()
    this.report(hashed.entries, true)
    return { listing, entries: hashed.entries, bytes: this.bytes }
  }

  private report(entries: number, isLast: boolean): void {
    const now = performance.now()
    if (!isLast && now - this.reportedAt < PROGRESS_MS) return
    this.reportedAt = now
    this.options.onProgress?.({ bytes: this.bytes, entries })
  }

  /** What the caller is told: of several things that went wrong in one moment, what stopped the rest. */
  private reason(error: unknown): StrataError {
    const first: unknown = this.stop.aborted ? this.stop.reason : error
    if (first instanceof StrataError) return first
    if (this.options.signal?.aborted && first === this.options.signal.reason) return new StrataError('cancelled', 'the upload was cancelled', { cause: first })
    return asStrataError(first)
  }
}
