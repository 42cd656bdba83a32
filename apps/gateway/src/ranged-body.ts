import type { IncomingMessage, ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'
import { closedSignal } from '@strata/platform'
import { requestedRange } from './byte-range.js'

/** A body whose length is known beforehand, and any part of which can be made. */
export interface RangedBody {
  readonly size: number
  /** Equal only for equal bytes; without quotes. */
  readonly etag: string
  readonly type: string
  bytes(range: { readonly start: number; readonly end: number }): AsyncIterable<Uint8Array>
}

/**
 * Answers with the body, or the part that `Range` (with `If-Range`) asks for, or 416. `HEAD` gets
 * the same without bytes.
 */
export async function sendRanged(request: IncomingMessage, response: ServerResponse, body: RangedBody): Promise<void> {
  const gone = closedSignal(response)
  if (gone.aborted) return
  const { size } = body
  const etag = `"${body.etag}"`
  const { 'if-range': ifRange, range: asked } = request.headers
  const range = ifRange === undefined || ifRange === etag ? requestedRange(asked, size) : undefined
  const common = { 'accept-ranges': 'bytes', etag, 'content-type': body.type, 'x-content-type-options': 'nosniff' }
  if (range === 'unsatisfiable') {
    response.writeHead(416, { ...common, 'content-range': `bytes */${size}`, 'content-length': 0 }).end()
    return
  }
  const { start, end } = range ?? { start: 0, end: size }
  response.writeHead(range ? 206 : 200, {
    ...common,
    'content-length': end - start,
    ...(range ? { 'content-range': `bytes ${start}-${end - 1}/${size}` } : {}),
  })
  if (request.method === 'HEAD' || start === end) {
    response.end()
    return
  }
  // A client that leaves, and bytes that cannot be read on: either way the connection ends before
  // the length that was promised.
  await pipeline(body.bytes({ start, end }), response, { signal: gone }).catch(() => response.destroy())
}
