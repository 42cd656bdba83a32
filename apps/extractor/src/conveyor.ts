import { once } from 'node:events'
import { Readable } from 'node:stream'
import type { MessagePort } from 'node:worker_threads'
import { asStrataError, StrataError, type ErrorCode } from '@strata/base'

/**
 * A stream's bytes into another thread. Pieces of 1 MiB change hands with their memory; a few are
 * on the way at most: each one taken out asks for one more.
 *
 * So what a thread works on needs nothing of where it comes from: no store of its own, no keys to
 * one.
 */
type Belt =
  | { readonly piece: Uint8Array<ArrayBuffer> }
  | { readonly end: true }
  | { readonly code: ErrorCode; readonly message: string }
const PIECE = 1024 * 1024
const AHEAD = 4

/**
 * Done when the source's end, or its error, is on the belt, or the other side is gone. A chunk of
 * the source may be lent: it is copied before the next one is asked for.
 */
export async function convey(source: AsyncIterable<Buffer>, port: MessagePort): Promise<void> {
  let room = AHEAD
  const gone = new AbortController()
  port.on('message', () => room++)
  port.once('close', () => gone.abort())
  const put = (message: Belt): void => port.postMessage(message, 'piece' in message ? [message.piece.buffer] : [])
  let piece = new Uint8Array(PIECE)
  let length = 0
  const send = async (): Promise<void> => {
    while (room === 0) await once(port, 'message', { signal: gone.signal })
    room--
    put({ piece: piece.subarray(0, length) })
    piece = new Uint8Array(PIECE)
    length = 0
  }
  try {
    for await (const chunk of source) {
      for (let at = 0; at < chunk.length;) {
        const part = Math.min(chunk.length - at, PIECE - length)
        piece.set(chunk.subarray(at, at + part), length)
        at += part
        length += part
        if (length === PIECE) await send()
      }
    }
    if (length > 0) await send()
    put({ end: true })
  } catch (error) {
    if (gone.signal.aborted) return
    const { code, message } = asStrataError(error)
    put({ code, message })
  }
}

/** The other end of the belt. */
export function conveyed(port: MessagePort): Readable {
  return Readable.from(
    (async function* () {
      const waiting: Belt[] = []
      port.on('message', (message: Belt) => void waiting.push(message))
      for (;;) {
        while (waiting.length === 0) await once(port, 'message')
        const next = waiting.shift()!
        if ('end' in next) return
        if ('code' in next) throw new StrataError(next.code, next.message)
        port.postMessage(undefined)
        yield Buffer.from(next.piece.buffer, next.piece.byteOffset, next.piece.byteLength)
      }
    })(),
    { objectMode: false, highWaterMark: PIECE },
  )
}
