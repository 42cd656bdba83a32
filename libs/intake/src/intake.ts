import { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { PACKED_LIMITS, type PackedLimits } from '@strata/archive'
import { asStrataError, StrataError } from '@strata/oci'
import { keys, localObjects, type ObjectStore } from '@strata/store'
import type { Destination } from './destination.js'
import { FileMouth, isAsKept, streamOf, type ArchiveFile } from './file-mouth.js'
import { LocalDestination } from './local-destination.js'
import type { LayerIndexed } from './messages.js'
import type { Mouth, Taken } from './mouth.js'
import { ObjectDestination } from './object-destination.js'
import { LARGE, LISTING_NAME } from './placement.js'
import { Readers, type Lane, type Session } from './readers.js'
import { SocketMouth } from './socket-mouth.js'
import { StreamMouth } from './stream-mouth.js'

export interface IntakeLimits {
  /** Entries of an archive. */
  readonly entries: number
  /** Bytes of an archive, unpacked. */
  readonly bytes: number
  /** How long a client may send nothing while it could. */
  readonly idleMs: number
  /** Of each layer; names, links and packing of the archive itself are bound by the same. */
  readonly layer: PackedLimits
}

export const INTAKE_LIMITS: IntakeLimits = { entries: 100_000, bytes: 2 ** 40, idleMs: 60_000, layer: PACKED_LIMITS }

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
  /**
   * The body is one file, kept as it came, packed or not: no archive is looked for in it. A plain
   * tar is indexed all the same; the list has one entry.
   */
  readonly whole?: boolean
  /** At most five times a second, and once at the end. */
  readonly onProgress?: (progress: IntakeProgress) => void
  /**
   * What is waited for, where that takes longer than a second (`waiting for a reader: 3 uploads are
   * being read`), and `undefined` when it is over.
   */
  readonly onWaiting?: (step: string | undefined) => void
}

export interface Received extends IntakeProgress {
  /** The key of the `ArchiveListing`. */
  readonly listing: string
}

export interface Intake {
  /**
   * Takes in an archive, plain or packed by gzip, zstd, bzip2 or xz, as it comes: every file of it
   * is hashed and written once, what is a plain tar is indexed in flight (`index/v1/…`), and the
   * list of all is written last. Memory is flat. The body is neither destroyed nor drained when it
   * is refused. A request's socket may be taken from Node for that: its connection must not be used
   * again (`Connection: close`), and of a refused one `bytesLeft` are to be drained.
   *
   * Rejects, with nothing of the upload left in the store: `archive_truncated`, `archive_invalid`,
   * `unsupported` (a sparse file), `limit_exceeded`, `storage_full`, `store_unavailable`,
   * `upload_interrupted` (client gone or silent). An aborted `signal` rejects with its reason if
   * that is a StrataError, else with `cancelled`.
   */
  receive(body: Readable, options: ReceiveOptions): Promise<Received>
  /**
   * The same for a file, which is read at any place, by several threads at once. It stays open, and
   * the caller's to close, once this has settled. A file that somebody writes to meanwhile comes in
   * as anything or nothing, but never with a digest that is not its bytes'; the caller sees to it
   * whether it was changed. Rejects also with `archive_changed`: it became shorter.
   */
  receiveFile(file: ArchiveFile, options: ReceiveOptions): Promise<Received>
  /** Ends the threads. Abort and await what is under way first. */
  close(): Promise<void>
}

const PROGRESS_MS = 200

export interface IntakeOptions {
  readonly store: ObjectStore
  /** Pairs of threads that read what clients send. One more reads files only. */
  readonly readers?: number
}

export const DEFAULT_READERS = 3

/**
 * A store whose objects are files has them written in place by threads; to another one they go as
 * streams, from this thread.
 */
export function createIntake({ store, readers: count = DEFAULT_READERS }: IntakeOptions): Intake {
  const local = localObjects(store)
  const readers = new Readers(count, local ? ['writer', 'hasher'] : ['hasher'])
  const destination = (upload: string): Destination =>
    local ? new LocalDestination(local, upload) : new ObjectDestination(store, upload)
  const receiveBy = (lane: Lane, mouth: Mouth, receive: ReceiveOptions): Promise<Received> =>
    new Reception(store, destination(receive.upload), mouth, receive).run(readers.open(lane))
  return {
    receive: (body, receive) =>
      receiveBy(
        'upload',
        (local && body instanceof IncomingMessage && SocketMouth.for(body)) || new StreamMouth(body),
        receive,
      ),
    receiveFile: async (file, receive) => {
      const { whole = false } = receive
      // A small file alone has an object of its own here as well, which the plan of a file gives to
      // large ones only.
      if (local && (!whole || file.size >= LARGE) && (await isAsKept(file, whole)))
        return receiveBy('file', new FileMouth(file), receive)
      const stream = streamOf(file)
      return receiveBy('file', new StreamMouth(stream.body), receive).finally(() => stream.close())
    },
    close: () => readers.close(),
  }
}

/** One archive's way in: a mouth takes it, this minds the store. */
class Reception {
  /** The first thing that goes wrong, whatever it is, ends everything else. */
  readonly #failure = new AbortController()
  readonly #stop: AbortSignal
  #reportedAt = 0

  constructor(
    private readonly store: ObjectStore,
    private readonly destination: Destination,
    private readonly mouth: Mouth,
    private readonly options: ReceiveOptions,
  ) {
    this.#stop = AbortSignal.any([
      this.#failure.signal,
      ...(mouth.interrupted ? [mouth.interrupted] : []),
      ...(options.signal ? [options.signal] : []),
    ])
  }

  async run(session: Session): Promise<Received> {
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

  async #claimed(session: Session): Promise<Received> {
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

  #take(session: Session): Promise<Taken> {
    return this.mouth.take(session, {
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
