import { createHash } from 'node:crypto'
import { StrataError } from '@strata/base'
import { abortable, cancelled } from '../objects/abortable.js'
import {
  MAX_CONTINUED_PARTS,
  type ByteSource,
  type ContinuedPut,
  type Etag,
  type ObjectInfo,
} from '../objects/object-store.js'
import { Multipart } from './multipart.js'
import type { BodyMemory } from './bodies/body-memory.js'
import { MIN_PART, smallParts, type PartPlan } from './bodies/part-plan.js'
import { abandon, noteOf } from './partial-uploads.js'
import { partsOf, type Part } from './bodies/parts.js'
import { STREAM_PATIENCE_MS, type S3Client } from './s3-client.js'
import { isAbsent, S3Failure } from './s3-failure.js'
import { completeXml, etagFrom, parseCompleted } from './s3-xml.js'
import { remove, soon } from './tidy.js'

export async function beginPut(client: S3Client, key: string, signal?: AbortSignal): Promise<ContinuedPut> {
  if (signal?.aborted) throw cancelled()
  const upload = await Multipart.begin(client, key, signal)
  const put = await upload.settled()
  // A second upload to this key may have begun. The state does not name it, so it is aborted now.
  if (upload.mayHaveTwin) await soon((limit) => abandon(client, key, limit, { but: put.uploadId }))
  return put
}

/** See `ContinuedPuts`. The last part that is sent has `MIN_PART` bytes too, if so many came. */
export async function appendPut(
  client: S3Client,
  put: ContinuedPut,
  source: ByteSource,
  { memory, plan, signal }: { memory: BodyMemory; plan: PartPlan; signal?: AbortSignal | undefined },
): Promise<ContinuedPut | undefined> {
  const last = put.parts.at(-1)
  if (last && last.size < MIN_PART)
    throw new StrataError(
      'bad_request',
      `nothing can be appended to ${put.key}: its last part has ${last.size} bytes, and only the last one may have fewer than ${MIN_PART}`,
    )
  if (signal?.aborted) throw cancelled()
  const stop = new AbortController()
  const upload = Multipart.resume(client, put, signal)
  upload.failed.addEventListener('abort', () => stop.abort())
  const watched =
    source instanceof Uint8Array
      ? source
      : abortable(source, signal ? AbortSignal.any([signal, stop.signal]) : stop.signal)
  // `withoutSmallLast` holds one part back while it asks for the next.
  const parts = withoutSmallLast(partsOf(watched, { memory, plan: (at) => plan(put.parts.length + at), heldBack: 2 }))
  let count = put.parts.length
  try {
    for await (const part of parts) {
      if (count++ < MAX_CONTINUED_PARTS) await upload.add(part)
      else {
        part.release()
        throw new StrataError(
          'limit_exceeded',
          `${put.key} would have more than ${MAX_CONTINUED_PARTS} parts: complete it, and put the rest as another piece`,
        )
      }
    }
    return await upload.settled()
  } catch (error) {
    const reason: unknown = upload.failed.aborted ? upload.failed.reason : error
    await parts.return(undefined)
    await upload.leave()
    if (isGone(reason)) return undefined
    throw reason
  }
}

/** If memory is short when the bytes come, the parts are small. */
export function roomIn({ parts }: ContinuedPut): number {
  let room = 0
  for (let at = parts.length; at < MAX_CONTINUED_PARTS; at++) room += smallParts(at)
  return room
}

export async function completePut(client: S3Client, put: ContinuedPut): Promise<ObjectInfo | undefined> {
  const { key, uploadId, parts } = put
  if (parts.length === 0) throw new StrataError('bad_request', `${key} has no parts: nothing was appended`)
  const body = completeXml(parts.map(({ etag }) => etag))
  const complete = async (): Promise<Etag | undefined> => {
    try {
      return parseCompleted((await client.send({ method: 'POST', key, query: { uploadId }, body })).text)
    } catch (error) {
      if (!isS3Code(error, 'NoSuchUpload', 'InvalidPart', 'InvalidPartOrder')) throw error
      return tagOf(put)
    }
  }
  const options = { patience: STREAM_PATIENCE_MS }
  const etag = await client.attempt(complete, options)
  // Versity S3 Gateway answers well to an upload that was completed before with other parts.
  if (etag === undefined || !(await client.attempt(() => isThere(client, put, etag), options))) return undefined
  await soon((limit) => remove(client, noteOf(key), limit))
  return { size: sizeOfParts(put), etag }
}

/**
 * The ETag that S3 gives to an object of exactly these parts: an MD5 over the MD5s of the parts. It
 * shows whether the put was completed before. On a server with other ETags that cannot be seen.
 */
function tagOf({ parts }: ContinuedPut): Etag | undefined {
  if (!parts.every(({ etag }) => /^[0-9a-f]{32}$/.test(etag))) return undefined
  const md5 = createHash('md5').update(Buffer.concat(parts.map(({ etag }) => Buffer.from(etag, 'hex'))))
  return `${md5.digest('hex')}-${parts.length}` as Etag
}

async function isThere(client: S3Client, put: ContinuedPut, etag: Etag): Promise<boolean> {
  try {
    const { headers } = await client.send({ method: 'HEAD', key: put.key })
    return etagFrom(headers.etag) === etag && Number(headers['content-length']) === sizeOfParts(put)
  } catch (error) {
    // The answer to a HEAD has no body: not every server says in a header what is absent.
    if (isAbsent(error) || (error instanceof S3Failure && error.status === 404)) return false
    throw error
  }
}

function sizeOfParts({ parts }: ContinuedPut): number {
  return parts.reduce((sum, { size }) => sum + size, 0)
}

/**
 * Joins a last part of fewer than `MIN_PART` bytes to the part before it, so that another part can
 * follow. An empty source has no parts here.
 */
async function* withoutSmallLast(parts: AsyncGenerator<Part>): AsyncGenerator<Part> {
  const held: Part[] = []
  try {
    for await (const part of parts) {
      if (part.length === 0) part.release()
      else if (part.length < MIN_PART && held.length > 0) held.push(joined(held.pop()!, part))
      else {
        held.push(part)
        if (held.length > 1) yield held.shift()!
      }
    }
    while (held.length > 0) yield held.shift()!
  } finally {
    for (const part of held) part.release()
    await parts.return(undefined)
  }
}

function joined(one: Part, other: Part): Part {
  return {
    bytes: [...one.bytes, ...other.bytes],
    length: one.length + other.length,
    release: () => {
      one.release()
      other.release()
    },
  }
}

function isGone(reason: unknown): boolean {
  return reason instanceof StrataError && isS3Code(reason.cause, 'NoSuchUpload')
}

function isS3Code(error: unknown, ...codes: string[]): boolean {
  return error instanceof S3Failure && codes.includes(error.code)
}
