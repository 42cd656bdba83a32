import type { IncomingMessage, ServerResponse } from 'node:http'
import { Logger } from '@nestjs/common'
import { StrataError } from '@strata/base'
import { closedSignal } from '@strata/platform'
import { requestedRange } from './byte-range.js'
import { lengthOf, sendParts, type BodyPart } from './send-parts.js'

/** A body whose length is known beforehand and whose parts can be made separately. */
export interface RangedBody {
  readonly size: number
  /** Equal only for equal bytes; without quotes. */
  readonly etag: string
  readonly type: string
  /** What else the answer says of the body. */
  readonly headers?: Readonly<Record<string, string>>
  /** The bytes from `start` to `end`, exclusive. A part is lent until the next one is asked for. */
  parts(range: { readonly start: number; readonly end: number }): AsyncIterable<BodyPart>
}

const logger = new Logger('gateway')

/**
 * How many bytes are read before the status is sent. They reach past small headers into the first
 * blob.
 */
const LEAD_BYTES = 64 * 1024

/**
 * Answers with the body, with the part that `Range` (with `If-Range`) asks for, with 416, or with
 * 304 if `If-None-Match` has it. `HEAD` gets the same without bytes. The first bytes are read
 * before the status is sent, so a blob that is missing there is answered with a problem, not with a
 * connection that breaks.
 * @throws StrataError what `parts` throws before that; `corrupt` if a blob is not in the store
 */
export async function sendRanged(request: IncomingMessage, response: ServerResponse, body: RangedBody): Promise<void> {
  const gone = closedSignal(response)
  if (gone.aborted) return
  const { size } = body
  const etag = `"${body.etag}"`
  const { 'if-range': ifRange, 'if-none-match': ifNoneMatch, range: asked } = request.headers
  const range = ifRange === undefined || ifRange === etag ? requestedRange(asked, size) : undefined
  const common = {
    'accept-ranges': 'bytes',
    etag,
    'content-type': body.type,
    'x-content-type-options': 'nosniff',
    ...body.headers,
  }
  if (matches(ifNoneMatch, etag)) {
    response.writeHead(304, common).end()
    return
  }
  if (range === 'unsatisfiable') {
    response.writeHead(416, { ...common, 'content-range': `bytes */${size}`, 'content-length': 0 }).end()
    return
  }
  const { start, end } = range ?? { start: 0, end: size }
  const isEmpty = request.method === 'HEAD' || start === end
  const parts = body.parts({ start, end })[Symbol.asyncIterator]()
  const lead = isEmpty ? [] : await leadOf(parts)
  response.writeHead(range ? 206 : 200, {
    ...common,
    'content-length': end - start,
    ...(range ? { 'content-range': `bytes ${start}-${end - 1}/${size}` } : {}),
  })
  if (isEmpty) {
    response.end()
    return
  }
  // If the client leaves, or bytes cannot be read, the connection ends before the promised length.
  const all = ofLength(end - start, following(lead, parts))
  await sendParts(all, response, gone).catch((error: unknown) => {
    response.destroy()
    if (gone.aborted) return
    const [path] = (request.url ?? '').split('?')
    logger.warn(
      `the answer to ${request.method} ${path} was broken off: ${error instanceof Error ? error.message : String(error)}`,
    )
  })
}

/** Whether an `If-None-Match` names this tag (RFC 9110, 13.1.2: a weak comparison). */
export function matches(ifNoneMatch: string | undefined, etag: string): boolean {
  const named = ifNoneMatch?.split(',').map((tag) => tag.trim().replace(/^W\//, ''))
  return named !== undefined && (named.includes('*') || named.includes(etag))
}

/**
 * Passes the promised number of bytes, or throws. If a body ended early, the client would wait on
 * an open connection. If it went on, the client would read the rest as the next answer.
 */
async function* ofLength(length: number, parts: AsyncIterable<BodyPart>): AsyncGenerator<BodyPart> {
  let sent = 0
  for await (const part of parts) {
    sent += lengthOf(part)
    if (sent > length) throw new StrataError('corrupt', `the body has more than the ${length} bytes that were promised`)
    yield part
  }
  if (sent < length) throw new StrataError('corrupt', `the body ends after ${sent} of ${length} bytes`)
}

/**
 * The first parts. None but the last is a part of a file: what is asked for behind one would close
 * it. Bytes are copied for the same reason.
 */
async function leadOf(parts: AsyncIterator<BodyPart>): Promise<BodyPart[]> {
  const lead: BodyPart[] = []
  try {
    for (let length = 0; length < LEAD_BYTES;) {
      const next = await parts.next()
      if (next.done) break
      length += lengthOf(next.value)
      if (!(next.value instanceof Uint8Array)) {
        lead.push(next.value)
        break
      }
      lead.push(length < LEAD_BYTES ? Buffer.from(next.value) : next.value)
    }
    return lead
  } catch (error) {
    if (!(error instanceof StrataError && error.code === 'not_found')) throw error
    throw new StrataError('corrupt', `the image is incomplete: ${error.message}`, { cause: error })
  }
}

async function* following(lead: readonly BodyPart[], rest: AsyncIterator<BodyPart>): AsyncGenerator<BodyPart> {
  try {
    yield* lead
    for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value
  } finally {
    await rest.return?.()
  }
}
