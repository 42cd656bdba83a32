import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import type { IncomingMessage } from 'node:http'
import { StrataError } from '@strata/base'
import { abortable, cancelled } from '../objects/abortable.js'
import { lentChunks } from '../objects/lent-chunks.js'
import { checkRange } from '../objects/byte-range.js'
import { checkKey, checkPrefix } from '../keys.js'
import type {
  ByteRange,
  ByteSource,
  ContinuedPut,
  ContinuedPuts,
  Etag,
  ObjectInfo,
  ObjectPage,
  ObjectStore,
  PartialUpload,
  PartialUploads,
} from '../objects/object-store.js'
import { bodyMemory, UNIT } from './bodies/body-memory.js'
import { appendPut, beginPut, completePut, roomIn } from './continued-puts.js'
import { PROBE_LIFETIME_MS, PROBES, tryConditions } from './conditions.js'
import { DirectReads } from './bodies/direct-reads.js'
import { listPage } from './list-page.js'
import { Multipart } from './multipart.js'
import { LentBody, type ReadInto } from './bodies/lent-body.js'
import { MIN_PART, planIn, type PartPlan } from './bodies/part-plan.js'
import { abandon, NOTES, partialUploads } from './partial-uploads.js'
import { partsOf, type Part } from './bodies/parts.js'
import type { Reopen } from './bodies/resuming-body.js'
import { S3Client, STREAM_PATIENCE_MS, type S3Config } from './s3-client.js'
import { isAbsent, isPreconditionFailed, S3Failure } from './s3-failure.js'
import { remove, soon } from './tidy.js'
import { deleteXml, etagFrom, parseDeleted, parseList } from './s3-xml.js'

/** What a `get` requests first. A smaller object costs one request. */
const FIRST = UNIT
/** For how long the address of a body's pieces is signed. It is used for half of that time. */
const PIECE_SECONDS = 900
/** S3's limit for a list and for a delete. */
const PAGE = 1_000
/** Keys of the driver's own, which no list shows. */
const OWN = [NOTES, PROBES]

interface OpenOptions {
  /** How every stream is cut into parts. If left out, the memory of the process decides. */
  readonly plan?: PartPlan | undefined
  /** A process warning if left out. */
  readonly warn?: (message: string) => void
}

/**
 * Objects in a bucket of an S3 server, by standard S3 alone: `If-None-Match: *` and `If-Match` on a
 * PUT, ranges, ListObjectsV2, multipart uploads. A short object is one PUT; a stream is sent in
 * parts. A request that fails is repeated within a bounded time where that is safe
 * (docs/decisions/0023).
 */
export class S3Store implements ObjectStore, PartialUploads, ContinuedPuts {
  readonly minPartBytes = MIN_PART
  readonly #reads: DirectReads

  private constructor(
    private readonly client: S3Client,
    private readonly plan: PartPlan | undefined,
  ) {
    this.#reads = new DirectReads(new URL(client.config.endpoint))
  }

  /**
   * Makes the bucket if it is missing and the access key may do that. Tests the server's
   * conditional writes, and deletes the probes of starts that died during that test. If the server
   * has no space for the test, `warn` gets a sentence and the store opens: a service that makes
   * space must be able to start.
   * @throws StrataError `store_unavailable` with what is wrong: no server, other keys, no bucket,
   * no conditional writes
   */
  static async open(
    config: S3Config,
    { plan, warn = (message) => process.emitWarning(message) }: OpenOptions = {},
  ): Promise<S3Store> {
    const client = new S3Client(config)
    try {
      const left = await leftProbes(client)
      const store = new S3Store(client, plan)
      if (left.length > 0) await store.delete(left)
      await tryConditions(store, config.endpoint).catch((error: unknown) => {
        if (!(error instanceof StrataError && error.code === 'storage_full')) throw error
        warn(`${error.message}: whether it obeys If-None-Match and If-Match is not tried until the next start`)
      })
      return store
    } catch (error) {
      client.close()
      throw error
    }
  }

  async put(key: string, source: ByteSource, { signal }: { signal?: AbortSignal } = {}): Promise<ObjectInfo> {
    checkKey(key)
    if (signal?.aborted) throw cancelled()
    const stop = new AbortController()
    const plan = this.plan ?? planIn(bodyMemory)
    const parts = partsOf(
      source instanceof Uint8Array
        ? source
        : abortable(source, signal ? AbortSignal.any([signal, stop.signal]) : stop.signal),
      { memory: bodyMemory, plan },
    )
    let upload: Multipart | undefined
    try {
      const first = (await parts.next()).value as Part
      const isWhole = first.length < plan(0) || (source instanceof Uint8Array && first.length === source.byteLength)
      if (isWhole) return await this.#putOnce(key, first, signal)
      upload = await this.#beginUpload(key, first, signal)
      upload.failed.addEventListener('abort', () => stop.abort())
      await upload.add(first)
      for await (const part of parts) await upload.add(part)
      return await upload.complete()
    } catch (error) {
      const reason: unknown = upload?.failed.aborted ? upload.failed.reason : error
      await parts.return(undefined)
      await upload?.abort()
      throw reason
    }
  }

  async get(key: string, range?: ByteRange): Promise<(ObjectInfo & { readonly body: Readable }) | undefined> {
    checkKey(key)
    if (range) checkRange(range)
    const wanted = { start: range?.start ?? 0, end: range?.end ?? Infinity }
    const opened =
      wanted.start === wanted.end ? undefined : await this.client.attempt(() => this.#openFirst(key, wanted))
    if (opened === 'absent') return undefined
    if (opened === undefined) {
      const info = await this.stat(key)
      return info && { ...info, body: Readable.from([], { objectMode: false }) }
    }
    const { answer: first, etag, start, end: firstEnd, size } = opened
    const reopen: Reopen = (range, signal) =>
      this.client.attempt(() => this.#reopen(key, range, opened, signal), { patience: STREAM_PATIENCE_MS, signal })
    let signed = { url: '', until: 0 }
    const readInto: ReadInto = async (range, into, signal) => {
      const now = performance.now()
      if (now > signed.until)
        signed = { url: await this.client.presign('GET', key, PIECE_SECONDS), until: now + 500 * PIECE_SECONDS }
      return this.#reads.read(new URL(signed.url), { ...range, etag, size }, into, signal)
    }
    const whole = { start, end: Math.min(wanted.end, size) }
    return { size, etag, body: new LentBody({ first, firstEnd, range: whole }, reopen, readInto) }
  }

  async read(key: string, maxBytes: number): Promise<{ readonly bytes: Buffer; readonly etag: Etag } | undefined> {
    const object = await this.get(key)
    if (!object) return undefined
    const { size, etag, body } = object
    if (size > maxBytes) {
      body.destroy()
      throw new StrataError('limit_exceeded', `${key} has ${size} bytes; at most ${maxBytes} are read`)
    }
    const bytes = Buffer.allocUnsafe(size)
    let length = 0
    for await (const chunk of lentChunks(body)) length += chunk.copy(bytes, length)
    return { bytes, etag }
  }

  async stat(key: string): Promise<ObjectInfo | undefined> {
    checkKey(key)
    const head = async (): Promise<ObjectInfo> => {
      const { headers } = await this.client.send({ method: 'HEAD', key })
      return { size: Number(headers['content-length']), etag: etagFrom(headers.etag) }
    }
    return this.client.attempt(async () => {
      try {
        return await head()
      } catch (error) {
        if (isAbsent(error)) return undefined
        if (!(error instanceof S3Failure && error.status === 404 && error.code === '')) throw error
        // The answer to a HEAD has no body, and only MinIO says in a header what is absent, the
        // object or the bucket.
        const opened = await this.#openFirst(key, { start: 0, end: 1 })
        if (opened === 'absent') return undefined
        opened?.answer.destroy()
        return head()
      }
    })
  }

  async create(key: string, bytes: Uint8Array): Promise<Etag | undefined> {
    return this.#putIf(key, bytes, { 'if-none-match': '*' })
  }

  async replace(key: string, bytes: Uint8Array, etag: Etag): Promise<Etag | undefined> {
    return this.#putIf(key, bytes, { 'if-match': `"${etag}"` })
  }

  async list(prefix: string, options: { after?: string; limit?: number } = {}): Promise<ObjectPage> {
    checkPrefix(prefix)
    const limit = options.limit ?? PAGE
    if (!(limit >= 1)) throw new StrataError('bad_request', `a page of ${limit} objects cannot be listed`)
    const { objects, next } = await listPage(this.client, prefix, options.after, Math.min(limit, PAGE))
    return {
      objects: objects
        .filter(({ key }) => !OWN.some((prefix) => key.startsWith(prefix)))
        .map(({ key, size, etag }) => ({ key, size, etag })),
      ...(next === undefined ? {} : { next }),
    }
  }

  async delete(keys: readonly string[]): Promise<void> {
    keys.forEach(checkKey)
    for (let at = 0; at < keys.length; at += PAGE) {
      const body = deleteXml(keys.slice(at, at + PAGE))
      const headers = { 'content-md5': createHash('md5').update(body).digest('base64') }
      await this.client.attempt(async () => {
        const failed = parseDeleted(
          (await this.client.send({ method: 'POST', query: { delete: '' }, headers, body })).text,
        )
        if (failed) throw failed
      })
    }
  }

  async *listPartial(prefix = ''): AsyncGenerator<PartialUpload> {
    yield* partialUploads(this.client, checkPrefix(prefix))
  }

  async beginPut(key: string, { signal }: { signal?: AbortSignal } = {}): Promise<ContinuedPut> {
    return beginPut(this.client, checkKey(key), signal)
  }

  roomIn(put: ContinuedPut): number {
    return roomIn(put)
  }

  async appendPut(
    put: ContinuedPut,
    source: ByteSource,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<ContinuedPut | undefined> {
    checkKey(put.key)
    return appendPut(this.client, put, source, {
      memory: bodyMemory,
      plan: this.plan ?? planIn(bodyMemory),
      signal,
    })
  }

  async completePut(put: ContinuedPut): Promise<ObjectInfo | undefined> {
    checkKey(put.key)
    return completePut(this.client, put)
  }

  async abortPut({ key }: ContinuedPut): Promise<void> {
    await abandon(this.client, checkKey(key))
  }

  close(): Promise<void> {
    this.client.close()
    this.#reads.close()
    return Promise.resolve()
  }

  async #beginUpload(key: string, first: Part, signal: AbortSignal | undefined): Promise<Multipart> {
    try {
      return await Multipart.begin(this.client, key, signal)
    } catch (error) {
      first.release()
      throw error
    }
  }

  async #putOnce(key: string, part: Part, signal: AbortSignal | undefined): Promise<ObjectInfo> {
    try {
      const send = async (): Promise<Etag> =>
        etagFrom((await this.client.send({ method: 'PUT', key, body: part.bytes, signal })).headers.etag)
      return { size: part.length, etag: await this.client.attempt(send, { patience: STREAM_PATIENCE_MS, signal }) }
    } catch (error) {
      // The server may have stored it all the same.
      await soon((limit) => remove(this.client, key, limit))
      throw error
    } finally {
      part.release()
    }
  }

  /**
   * A PUT with a condition. If an answer was lost, the write may have been done. Then the condition
   * fails at the next attempt because of our own write. The content shows that, since no two writes
   * of a record have the same bytes (`rev`).
   */
  async #putIf(key: string, bytes: Uint8Array, condition: Record<string, string>): Promise<Etag | undefined> {
    checkKey(key)
    return this.client.attempt(async (unsure) => {
      try {
        return etagFrom((await this.client.send({ method: 'PUT', key, body: bytes, headers: condition })).headers.etag)
      } catch (error) {
        if (isAbsent(error)) return undefined
        if (!isPreconditionFailed(error)) throw error
        return unsure ? this.#tagIfHolding(key, bytes) : undefined
      }
    })
  }

  async #tagIfHolding(key: string, bytes: Uint8Array): Promise<Etag | undefined> {
    const info = await this.stat(key)
    if (info?.size !== bytes.byteLength) return undefined
    const found = await this.read(key, info.size)
    return found?.bytes.equals(bytes) ? found.etag : undefined
  }

  /**
   * Opens the first bytes of a range, at most `FIRST`. `undefined`: the range begins behind the
   * object's end. A server that does not know ranges may answer with the whole object, if that was
   * asked for.
   */
  async #openFirst(key: string, { start, end }: ByteRange): Promise<OpenBody | 'absent' | undefined> {
    const first = { start, end: Math.min(end, start + FIRST) }
    try {
      const answer = await this.client.open({ method: 'GET', key, headers: rangeHeader(first) })
      const isWhole = answer.statusCode === 200 && start === 0
      return bodyOf(answer, isWhole ? { start, end } : first)
    } catch (error) {
      if (isAbsent(error)) return 'absent'
      if (error instanceof S3Failure && error.status === 416) return undefined
      throw error
    }
  }

  /** Opens a range of the state of an object that `of` tells. */
  async #reopen(key: string, range: ByteRange, of: ObjectInfo, signal: AbortSignal): Promise<IncomingMessage> {
    const changed = (cause?: unknown): StrataError =>
      new StrataError('store_unavailable', `${key} was changed or deleted while it was read`, { cause })
    try {
      const headers = { ...rangeHeader(range), 'if-match': `"${of.etag}"` }
      const { answer, etag, size } = bodyOf(await this.client.open({ method: 'GET', key, headers, signal }), range)
      if (etag === of.etag && size === of.size) return answer
      // The server does not know `If-Match`.
      answer.destroy()
      throw changed()
    } catch (error) {
      if (isAbsent(error) || isPreconditionFailed(error)) throw changed(error)
      throw error
    }
  }
}

/**
 * The probes that no start needs any more. This first request also shows whether the bucket exists,
 * and makes it if not.
 */
async function leftProbes(client: S3Client): Promise<string[]> {
  return client.attempt(async () => {
    try {
      const { text } = await client.send({ method: 'GET', query: { 'list-type': '2', prefix: PROBES } })
      const before = Date.now() - PROBE_LIFETIME_MS
      const old = parseList(text).objects.filter(
        ({ key, modified }) => key.startsWith(PROBES) && modified.getTime() < before,
      )
      return old.map(({ key }) => key)
    } catch (error) {
      if (!(error instanceof S3Failure && error.code === 'NoSuchBucket')) throw error
      await makeBucket(client)
      return []
    }
  })
}

async function makeBucket(client: S3Client): Promise<void> {
  const { region, bucket, endpoint } = client.config
  // The only region that a request must not name.
  const body =
    region === 'us-east-1'
      ? undefined
      : Buffer.from(
          `<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>${region}</LocationConstraint></CreateBucketConfiguration>`,
        )
  try {
    await client.send({ method: 'PUT', ...(body ? { body } : {}) })
  } catch (error) {
    if (!(error instanceof S3Failure)) throw error
    // Made by another process meanwhile.
    if (error.code === 'BucketAlreadyOwnedByYou') return
    if (error.code === 'BucketAlreadyExists') throw S3Failure.ofAnswer(503, error.code, error.message)
    if (error.retryable && error.code !== 'AccessDenied') throw error
    throw new StrataError(
      'store_unavailable',
      `there is no bucket ${bucket} at ${endpoint}, and it cannot be made with this access key (${error.message})`,
      { cause: error },
    )
  }
}

function rangeHeader({ start, end }: ByteRange): { readonly range: string } {
  return { range: `bytes=${start}-${end - 1}` }
}

/** An answer, the range of bytes that it has, and the object's size and ETag. */
interface OpenBody extends ObjectInfo {
  readonly answer: IncomingMessage
  readonly start: number
  readonly end: number
}

/** A server or a proxy that does not know ranges answers with the whole object. */
function bodyOf(answer: IncomingMessage, wanted: ByteRange): OpenBody {
  const body = announced(answer)
  if (body?.start === wanted.start && body.end === Math.min(wanted.end, body.size)) return body
  answer.destroy()
  throw S3Failure.ofNonsense(body ? 'other bytes than were asked for' : 'a body without its length')
}

function announced(answer: IncomingMessage): OpenBody | undefined {
  const { 'content-range': range, 'content-length': length, etag } = answer.headers
  const whole = /^\d+$/.exec(length ?? '')
  const part = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(range ?? '')
  if (answer.statusCode === 206 && part)
    return { answer, start: Number(part[1]), end: Number(part[2]) + 1, size: Number(part[3]), etag: etagFrom(etag) }
  if (answer.statusCode === 200 && whole)
    return { answer, start: 0, end: Number(length), size: Number(length), etag: etagFrom(etag) }
  return undefined
}
