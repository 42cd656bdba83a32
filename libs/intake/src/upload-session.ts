import { asStrataError, StrataError } from '@strata/base'
import { keys, type ObjectStore } from '@strata/store'
import type { Destination } from './destinations/destination.js'
import { LISTING_NAME } from './destinations/placement.js'
import { INTAKE_LIMITS, type IntakeProgress, type Received, type ReceiveOptions } from './receive-options.js'
import type { Source, Taken } from './sources/source.js'
import type { LayerIndexed } from './threads/messages.js'
import type { ReaderSession } from './threads/readers.js'

const PROGRESS_MS = 200

/** One archive's way in: a source reads it, this minds the store. */
export class UploadSession {
  /** The first thing that goes wrong, whatever it is, ends everything else. */
  readonly #failure = new AbortController()
  readonly #stop: AbortSignal
  #reportedAt = 0

  constructor(
    private readonly store: ObjectStore,
    private readonly destination: Destination,
    private readonly source: Source,
    private readonly options: ReceiveOptions,
  ) {
    this.#stop = AbortSignal.any([
      this.#failure.signal,
      ...(source.interrupted ? [source.interrupted] : []),
      ...(options.signal ? [options.signal] : []),
    ])
  }

  async run(session: ReaderSession): Promise<Received> {
    try {
      this.#stop.throwIfAborted()
      await this.destination.claim()
      return await this.#claimed(session)
    } catch (error) {
      throw this.#reason(error)
    } finally {
      session.close()
    }
  }

  async #claimed(session: ReaderSession): Promise<Received> {
    try {
      return await this.#seal(await this.#take(session))
    } catch (error) {
      // What goes on beside, a `put` whose source is silent, ends by this.
      this.#failure.abort(error)
      // A store that is away keeps what it has until the upload is swept; the caller is told why it
      // failed, not that.
      await this.destination.discard().catch(() => undefined)
      throw error
    }
  }

  #take(session: ReaderSession): Promise<Taken> {
    return this.source.take(session, {
      keyPrefix: keys.dataOf(this.options.upload),
      folder: this.destination.folder,
      write: (ring) => this.#write(ring),
      limits: { ...INTAKE_LIMITS, ...this.options.limits },
      whole: this.options.whole === true,
      stop: this.#stop,
      fail: (error) => this.#failure.abort(error),
      keepIndex: (index) => this.#keepIndex(index),
      report: (progress) => this.#report(progress, false),
      waiting: (step) => this.options.onWaiting?.(step),
    })
  }

  async #write(ring: SharedArrayBuffer): Promise<void> {
    const { entries, layer } = { ...INTAKE_LIMITS, ...this.options.limits }
    await this.destination
      .write(ring, { limits: { ...layer, entries }, whole: this.options.whole === true }, this.#stop)
      .catch((error: unknown) => this.#failure.abort(error))
  }

  async #keepIndex({ diffId, bytes }: LayerIndexed): Promise<void> {
    await this.store.create(keys.index(diffId), bytes).catch((error: unknown) => {
      // The bytes outlive a store that is started again, and the extractor makes an index that is
      // missing.
      if (asStrataError(error).code !== 'store_unavailable') this.#failure.abort(error)
    })
  }

  async #seal({ large, listing, entries, bytes }: Taken): Promise<Received> {
    this.#stop.throwIfAborted()
    await this.destination.seal(large)
    const key = keys.data(this.options.upload, LISTING_NAME)
    await this.store.put(key, listing)
    this.#stop.throwIfAborted()
    this.#report({ bytes, entries }, true)
    return { listing: key, entries, bytes }
  }

  #report(progress: IntakeProgress, isLast: boolean): void {
    const now = performance.now()
    if (!isLast && now - this.#reportedAt < PROGRESS_MS) return
    this.#reportedAt = now
    this.options.onProgress?.(progress)
  }

  /**
   * What the caller is told: of several things that went wrong in one moment, what stopped the
   * rest.
   */
  #reason(error: unknown): StrataError {
    const first: unknown = this.#stop.aborted ? this.#stop.reason : error
    if (first instanceof StrataError) return first
    if (this.options.signal?.aborted && first === this.options.signal.reason)
      return new StrataError('cancelled', 'the upload was cancelled', { cause: first })
    return asStrataError(first)
  }
}
