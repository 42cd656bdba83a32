import { orAborted, StrataError } from '@strata/base'
import { cancelled } from '../objects/abortable.js'
import type { ContinuedPut, ObjectInfo } from '../objects/object-store.js'
import { MAX_PARTS } from './bodies/part-plan.js'
import type { Part } from './bodies/parts.js'
import { STREAM_PATIENCE_MS, type S3Client } from './s3-client.js'
import { abandon, noteOf } from './partial-uploads.js'
import { remove, soon } from './tidy.js'
import { S3Failure } from './s3-failure.js'
import { completeXml, etagFrom, parseCompleted, parseUploadId } from './s3-xml.js'

/**
 * How many parts are sent at the same time, while one more is being filled. If memory is short, it
 * is fewer: see `partsOf`.
 */
const IN_FLIGHT = 3

type SentPart = ContinuedPut['parts'][number]

/**
 * An upload in parts under a fresh key. No object exists before `complete`. A part that fails is
 * sent again. If it fails for good, `failed` aborts, so that nobody waits for a silent source.
 */
export class Multipart {
  readonly #parts: SentPart[]
  readonly #flying = new Set<Promise<void>>()
  readonly #failure = new AbortController()
  readonly #over = new AbortController()
  #size: number
  #count: number

  private constructor(
    private readonly client: S3Client,
    private readonly key: string,
    private readonly uploadId: string,
    signal: AbortSignal | undefined,
    /**
     * The answer to an earlier attempt to begin was lost. So that attempt may have begun another
     * upload.
     */
    readonly mayHaveTwin: boolean,
    parts: readonly SentPart[] = [],
  ) {
    this.#parts = [...parts]
    this.#count = parts.length
    this.#size = parts.reduce((sum, { size }) => sum + size, 0)
    signal?.addEventListener('abort', () => this.#failure.abort(cancelled()), { signal: this.#over.signal })
  }

  static async begin(client: S3Client, key: string, signal: AbortSignal | undefined): Promise<Multipart> {
    const options = { patience: STREAM_PATIENCE_MS, signal }
    const begun = async (unsure: boolean) => ({
      id: parseUploadId((await client.send({ method: 'POST', key, query: { uploads: '' } })).text),
      unsure,
    })
    // The signal breaks neither request off: the server could still do it, after the clean-up.
    const begin = async () => {
      await client.attempt(() => client.send({ method: 'PUT', key: noteOf(key) }), options)
      if (signal?.aborted) throw cancelled()
      return client.attempt(begun, options)
    }
    const beginning = begin()
    try {
      const { id, unsure } = await (signal ? orAborted(beginning, signal, cancelled) : beginning)
      return new Multipart(client, key, id, signal, unsure)
    } catch (error) {
      const tidied = beginning.catch(() => undefined).then(() => soon((limit) => abandon(client, key, limit)))
      // A caller that has cancelled does not wait for the server.
      if (!signal?.aborted) await tidied
      throw error
    }
  }

  /** Goes on with an upload that another process may have begun. */
  static resume(client: S3Client, { key, uploadId, parts }: ContinuedPut, signal?: AbortSignal): Multipart {
    return new Multipart(client, key, uploadId, signal, false, parts)
  }

  /**
   * Aborts when the upload has failed. Its reason is what `put` throws: a part's error, or
   * `cancelled`.
   */
  get failed(): AbortSignal {
    return this.#failure.signal
  }

  /**
   * Takes the part over, also if it throws. Resolves when the part is being sent, so that the next
   * one can be filled meanwhile.
   */
  async add(part: Part): Promise<void> {
    try {
      while (this.#flying.size >= IN_FLIGHT) await Promise.race(this.#flying)
      this.#failure.signal.throwIfAborted()
      if (this.#count === MAX_PARTS)
        throw new StrataError(
          'limit_exceeded',
          `an object has more than ${this.#size} bytes: an S3 server takes no larger one`,
        )
    } catch (error) {
      part.release()
      throw error
    }
    const at = this.#count++
    this.#size += part.length
    const sending = this.#send(at, part)
      .catch((error: unknown) => this.#failure.abort(error))
      .finally(() => {
        part.release()
        this.#flying.delete(sending)
      })
    this.#flying.add(sending)
  }

  /** Waits until all parts are sent, and gives the state from which another process can go on. */
  async settled(): Promise<ContinuedPut> {
    await Promise.all(this.#flying)
    this.#failure.signal.throwIfAborted()
    this.#over.abort()
    return { key: this.key, uploadId: this.uploadId, parts: [...this.#parts] }
  }

  /** Stops sending. The parts that the server has stay, so that another process can go on. */
  async leave(): Promise<void> {
    this.#over.abort()
    this.#failure.abort()
    await Promise.all(this.#flying)
  }

  /**
   * When this resolves, the object exists, complete. If an answer is lost, the request is sent
   * again: an upload that does not exist any more was completed by the first one.
   */
  async complete(): Promise<ObjectInfo> {
    await Promise.all(this.#flying)
    this.#failure.signal.throwIfAborted()
    const { client, key } = this
    const body = completeXml(this.#parts.map(({ etag }) => etag))
    const etag = await client.attempt(
      async (unsure) => {
        try {
          return parseCompleted(
            (await client.send({ method: 'POST', key, query: { uploadId: this.uploadId }, body })).text,
          )
        } catch (error) {
          if (!(unsure && error instanceof S3Failure && error.code === 'NoSuchUpload')) throw error
          return etagFrom((await client.send({ method: 'HEAD', key })).headers.etag)
        }
      },
      { patience: STREAM_PATIENCE_MS },
    )
    this.#over.abort()
    // A caller waits, so nothing is listed unless there may be a twin.
    await soon((limit) => (this.mayHaveTwin ? abandon(client, key, limit) : remove(client, noteOf(key), limit)))
    return { size: this.#size, etag }
  }

  /**
   * Deletes the upload and the object that it may have become, if the server answers. Otherwise the
   * storage service finds them later.
   */
  async abort(): Promise<void> {
    await this.leave()
    await soon((limit) => abandon(this.client, this.key, limit, this.mayHaveTwin ? {} : { only: this.uploadId }))
    await soon((limit) => remove(this.client, this.key, limit))
  }

  async #send(at: number, { bytes, length }: Part): Promise<void> {
    const query = { partNumber: String(at + 1), uploadId: this.uploadId }
    const { signal } = this.#failure
    const etag = await this.client.attempt(
      async () =>
        etagFrom((await this.client.send({ method: 'PUT', key: this.key, query, body: bytes, signal })).headers.etag),
      { patience: STREAM_PATIENCE_MS, signal },
    )
    this.#parts[at] = { etag, size: length }
  }
}
