import type { IncomingMessage } from 'node:http'
import { StrataError } from '@strata/base'
import type { Chunk } from '@strata/store'

/** How slow the client of a body may be. */
export interface SlowestClient {
  /** How long it may send nothing. */
  readonly idleMs: number
  /**
   * How many bytes a second it has to send, on the average of the time in which this process waits
   * for them, counted each time that this adds up to `idleMs`.
   */
  readonly bytesPerSecond: number
}

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
      : { source: bytesOf(request, slowest), length: size }
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
  return { source: bytesOf(request, slowest), start: Number(first), length: said }
}

/** The bytes of a body. The request can still be answered if they are not read to their end. */
async function* bytesOf(
  request: IncomingMessage,
  { idleMs, bytesPerSecond }: SlowestClient,
): AsyncGenerator<Uint8Array> {
  const pieces = request.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Uint8Array>
  let [waited, came] = [0, 0]
  try {
    for (;;) {
      const since = performance.now()
      const next = await inTime(pieces.next(), idleMs)
      if (next.done) return
      waited += performance.now() - since
      came += next.value.length
      if (waited >= idleMs) {
        if (came < (bytesPerSecond * waited) / 1_000)
          throw new StrataError(
            'request_timeout',
            `${came} bytes came of the body in ${Math.round(waited / 1_000)} seconds: at least ${bytesPerSecond} a second are asked for (STRATA_PUSH_MIN_RATE)`,
          )
        ;[waited, came] = [0, 0]
      }
      yield next.value
    }
  } finally {
    // Or its listener stays, and what still comes cannot be dropped. It may wait for bytes, so
    // nobody waits for it.
    pieces.return?.().catch(() => undefined)
  }
}

async function inTime<T>(next: Promise<T>, idleMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const isIdle = new Promise<never>((_, reject) => {
    const error = new StrataError('request_timeout', `nothing came of the body for ${idleMs / 1000} seconds`)
    timer = setTimeout(() => reject(error), idleMs)
  })
  try {
    return await Promise.race([next, isIdle])
  } catch (error) {
    if (error instanceof StrataError) throw error
    throw new StrataError('upload_interrupted', 'the connection was closed before the body was whole', { cause: error })
  } finally {
    clearTimeout(timer)
  }
}
