import type { IncomingMessage } from 'node:http'
import { StrataError, type ErrorCode } from '@strata/base'

export interface BodyLimits {
  /** Bytes of one body. */
  readonly bytes: number
  /** Bytes of all bodies together that are being read. */
  readonly memory: number
  /** How long the client may take for one body. */
  readonly timeoutMs: number
}

/**
 * Reads the bodies that a service holds in memory: the JSON of requests. Archives are not among
 * them.
 *
 * Laws
 * - Only authenticated requests come here (authentication.ts).
 * - One body has at most `bytes` bytes: `limit_exceeded`, from its length alone if the client names
 *   one.
 * - All bodies that are being read, or used (`use`), have at most `memory` bytes together, counted
 *   as they arrive.
 *   The body that would exceed this is refused at once: `overloaded`. Nothing waits for room, since
 *   a client that sends slowly could then hold up all others.
 * - A body is whole after `timeoutMs`: `request_timeout`.
 * - A refused body is dropped, also what still arrives of it; turns.ts closes a connection that
 *   goes on.
 */
export class RequestBodies {
  #held = 0

  constructor(private readonly limits: BodyLimits) {}

  /** @param most bytes of this body, where they are fewer than `bytes` */
  async read(request: IncomingMessage, most = Infinity): Promise<Buffer> {
    return this.use(request, (bytes) => bytes, most)
  }

  /** Reads a body for work that takes long: the body has its memory until the work has ended. */
  async use<T>(request: IncomingMessage, work: (bytes: Buffer) => T | Promise<T>, most = Infinity): Promise<T> {
    const bytes = await this.#whole(request, most)
    try {
      return await work(bytes)
    } finally {
      this.#held -= bytes.length
    }
  }

  /** Its bytes are counted until the caller takes them off. */
  #whole(request: IncomingMessage, most: number): Promise<Buffer> {
    const { memory, timeoutMs } = this.limits
    const bytes = Math.min(this.limits.bytes, most)
    const tooLarge = [`limit_exceeded`, `the body has more than ${bytes} bytes`] as const
    const pieces: Buffer[] = []
    let size = 0
    return new Promise((resolve, reject) => {
      let isOver = false
      const end = (): void => {
        isOver = true
        clearTimeout(timer)
        request.off('data', take).off('end', succeed).off('close', interrupted).off('error', interrupted)
      }
      const refuse = (code: ErrorCode, message: string): void => {
        end()
        this.#held -= size
        request.resume()
        reject(new StrataError(code, message))
      }
      const succeed = (): void => {
        end()
        resolve(Buffer.concat(pieces))
      }
      const interrupted = (): void =>
        refuse('upload_interrupted', 'the connection was closed before the body was whole')
      const take = (piece: Buffer): void => {
        if (size + piece.length > bytes) return refuse(...tooLarge)
        if (this.#held + piece.length > memory)
          return refuse(
            'overloaded',
            `the bodies of the requests that are being read or served take ${memory} bytes of memory, and this one has no room; try again in a moment (STRATA_BODY_MEMORY)`,
          )
        size += piece.length
        this.#held += piece.length
        pieces.push(piece)
      }
      const late = (): void => {
        if (!isOver) refuse('request_timeout', `the body was not whole after ${timeoutMs / 1000} seconds`)
      }
      // After a standstill of the process, timers run before sockets are read.
      const timer = setTimeout(() => setImmediate(late), timeoutMs)
      if (request.destroyed) interrupted()
      else if (Number(request.headers['content-length'] ?? 0) > bytes) refuse(...tooLarge)
      else request.on('data', take).once('end', succeed).once('close', interrupted).once('error', interrupted)
    })
  }
}
