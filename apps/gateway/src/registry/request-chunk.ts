import type { IncomingMessage } from 'node:http'
import { StrataError } from '@strata/base'
import type { Chunk } from '@strata/store'
import { GatheredBody, type SlowestClient } from './gathered-body.js'

interface ReceivedChunk extends Chunk {
  readonly source: GatheredBody
}

/**
 * Runs work on the body of a request, as a chunk of an upload; `undefined` if the request has none.
 * When the work has ended, the request is not read any more: another request may have superseded
 * this one while its client was waited for.
 * @throws as `chunkOf`, and what the work throws
 */
export async function withChunk<T>(
  request: IncomingMessage,
  slowest: SlowestClient,
  work: (chunk: Chunk | undefined) => Promise<T>,
): Promise<T> {
  const chunk = chunkOf(request, slowest)
  try {
    return await work(chunk)
  } finally {
    chunk?.source.stop()
  }
}

/**
 * The body of a request as a chunk of an upload; `undefined` if the request has none. The body
 * fails with `request_timeout` if its client is slower than `slowest`.
 * @throws StrataError `range_invalid` if `Content-Range` is not valid, or has another length than
 * the body
 */
export function chunkOf(request: IncomingMessage, slowest: SlowestClient): ReceivedChunk | undefined {
  const { 'content-length': length, 'content-range': header, 'transfer-encoding': encoding } = request.headers
  const size = length === undefined ? undefined : Number(length)
  if (header === undefined)
    return size === 0 || (size === undefined && encoding === undefined)
      ? undefined
      : { source: new GatheredBody(request, slowest, size), length: size }
  const [, first, last] = /^(?:bytes[ =])?(\d{1,15})-(\d{1,15})(?:\/(?:\d+|\*))?$/.exec(header) ?? []
  const said = Number(last) - Number(first) + 1
  if (first === undefined || said < 1)
    throw new StrataError(
      'range_invalid',
      `Content-Range is ${JSON.stringify(header.slice(0, 100))}: it is the first and the last byte of the chunk, as 0-999`,
    )
  if (size !== undefined && size !== said)
    throw new StrataError(
      'range_invalid',
      `Content-Range ${header.slice(0, 100)} has ${said} bytes, and the body ${size}`,
    )
  return { source: new GatheredBody(request, slowest, size), start: Number(first), length: said }
}
