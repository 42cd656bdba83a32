import { StrataError } from '@strata/base'
import { cancelled, unlessAborted } from '../objects/abortable.js'
import type { Etag, ObjectInfo } from '../objects/object-store.js'
import type { Part } from './part-buffers.js'
import { MAX_PARTS, UNIT } from './part-plan.js'
import { STREAM_PATIENCE_MS, type S3Client } from './s3-client.js'
import { abandon, noteOf } from './partial-uploads.js'
import { remove, soon } from './tidy.js'
import { S3Failure } from './s3-failure.js'
import { completeXml, etagFrom, parseCompleted, parseUploadId } from './s3-xml.js'

/**
 * Parts on their way at a time; one more is being filled. Of large ones fewer: as many as are not
 * more bytes than these, or one.
 */
const IN_FLIGHT = 3

/**
 * An upload in parts under a fresh key. Nobody sees an object until `complete`. A part that fails
 * is sent again; if it fails for good, `failed` aborts, so that a source that is silent is not
 * waited for.
 */
export class Multipart {
  readonly #tags: Etag[] = []
  readonly #flying = new Set<Promise<void>>()
  readonly #failure = new AbortController()
  readonly #over = new AbortController()
  #size = 0
  #flyingBytes = 0
  #count = 0

  private constructor(
    private readonly client: S3Client,
    private readonly key: string,
    private readonly uploadId: string,
    /** An earlier try to begin, whose answer was lost, may have begun another. */
    private readonly mayHaveTwin: boolean,
  ) {}

  static async begin(client: S3Client, key: string, signal: AbortSignal | undefined): Promise<Multipart> {
    const options = { patience: STREAM_PATIENCE_MS, signal }
    await client.attempt(() => client.send({ method: 'PUT', key: noteOf(key), signal }), options)
    // Not broken off by the signal: the server could begin the upload after the look that ends it.
    const begun = async (unsure: boolean) => ({
      id: parseUploadId((await client.send({ method: 'POST', key, query: { uploads: '' } })).text),
      unsure,
    })
    const beginning = client.attempt(begun, options)
    try {
      const { id, unsure } = await unlessAborted(beginning, signal)
      const upload = new Multipart(client, key, id, unsure)
      signal?.addEventListener('abort', () => upload.#failure.abort(cancelled()), { signal: upload.#over.signal })
      return upload
    } catch (error) {
      const tidied = beginning.catch(() => undefined).then(() => soon((limit) => abandon(client, key, limit)))
      // Whoever has cancelled does not wait for the server.
      if (!signal?.aborted) await tidied
      throw error
    }
  }

  /**
   * Aborts when nothing more can come of it; its reason is what `put` is to throw: a part's error,
   * or `cancelled`.
   */
  get failed(): AbortSignal {
    return this.#failure.signal
  }

  /** Resolves when the part is on its way: the next one can be filled meanwhile. */
  async add(part: Part): Promise<void> {
    while (this.#flying.size > 0 && this.#flyingBytes + part.length > IN_FLIGHT * UNIT) await Promise.race(this.#flying)
    this.#failure.signal.throwIfAborted()
    if (this.#count === MAX_PARTS)
      throw new StrataError(
        'limit_exceeded',
        `an object has more than ${this.#size} bytes; that is as many as an S3 server takes`,
      )
    const at = this.#count++
    this.#size += part.length
    this.#flyingBytes += part.length
    const sending = this.#send(at, part)
      .catch((error: unknown) => this.#failure.abort(error))
      .finally(() => {
        part.release()
        this.#flyingBytes -= part.length
        this.#flying.delete(sending)
      })
    this.#flying.add(sending)
  }

  /**
   * The object is there, whole, when it resolves. Tried again where an answer was lost: an upload
   * that is gone then is one that was completed.
   */
  async complete(): Promise<ObjectInfo> {
    await Promise.all(this.#flying)
    this.#failure.signal.throwIfAborted()
    const { client, key } = this
    const body = completeXml(this.#tags)
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
    // Nothing is listed while somebody waits, unless there is a reason to look.
    await soon((limit) => (this.mayHaveTwin ? abandon(client, key, limit) : remove(client, noteOf(key), limit)))
    return { size: this.#size, etag }
  }

  /**
   * Nothing is left of it, nor of the object that it may have become, on a server that answers;
   * elsewhere the storage service's sweep finds it.
   */
  async abort(): Promise<void> {
    this.#over.abort()
    this.#failure.abort()
    await Promise.all(this.#flying)
    await soon((limit) => abandon(this.client, this.key, limit, this.mayHaveTwin ? undefined : this.uploadId))
    await soon((limit) => remove(this.client, this.key, limit))
  }

  async #send(at: number, { bytes }: Part): Promise<void> {
    const query = { partNumber: String(at + 1), uploadId: this.uploadId }
    const { signal } = this.#failure
    this.#tags[at] = await this.client.attempt(
      async () =>
        etagFrom((await this.client.send({ method: 'PUT', key: this.key, query, body: bytes, signal })).headers.etag),
      { patience: STREAM_PATIENCE_MS, signal },
    )
  }
}
