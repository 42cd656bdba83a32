import type { IncomingMessage } from 'node:http'
import { StrataError } from '@strata/base'
import type { Chunk } from '@strata/store'
import { GatheredBody, type SlowestClient } from './gathered-body.js'

/**
 * The body of a request as a chunk of an upload; `undefined` if the request has none. The body
 * fails with `request_timeout` if its client is slower than `slowest`.
 * @throws StrataError `range_invalid` if `Content-Range` is not valid, or has another length than
 * the body
 */
export function chunkOf(request: IncomingMessage, slowest: SlowestClient): Chunk | undefined {
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
