import { once } from 'node:events'
import { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { ARCHIVE_HEAD, archiveDecompressor } from '@strata/archive'
import { asStrataError, StrataError } from '@strata/base'
import { giveBack } from './give-back.js'
import { unpackingOf } from './unpacking.js'

/** Takes a piece; a promise means: no more before it is done. */
export type Accept = (piece: Buffer) => Promise<void> | undefined

/**
 * A client's body. It is watched from the start, so that a client that leaves while the intake
 * waits for a worker is noticed; it is never destroyed here: whoever owns the connection may still
 * want to answer on it.
 */
export class Body {
  readonly #gone = new AbortController()

  constructor(private readonly stream: Readable) {
    stream.pause()
    const interrupted = (why: string, cause?: unknown): void => {
      this.#gone.abort(new StrataError('upload_interrupted', `the upload was interrupted: ${why}`, { cause }))
    }
    if (stream.destroyed && !stream.readableEnded) interrupted('its connection was closed', stream.errored)
    stream.once('error', (error) => interrupted(error.message, error))
    stream.once('close', () => {
      if (!stream.readableEnded) interrupted('its connection was closed')
    })
  }

  /** Aborted, with the error to reject with, when the client has gone before the end. */
  get interrupted(): AbortSignal {
    return this.#gone.signal
  }

  /**
   * The body into `accept`, to its end, unpacked (`unpackingOf`) to at most `ratio` times its size.
   * Rejects with `stop`'s reason at once when that is aborted.
   */
  async pump(
    accept: Accept,
    onBytes: (length: number) => void,
    {
      idleMs,
      whole,
      ratio,
      stop,
    }: { readonly idleMs: number; readonly whole: boolean; readonly ratio: number; readonly stop: AbortSignal },
  ): Promise<void> {
    const idle = new IdleClock(idleMs)
    idle.run()
    const ended = new AbortController()
    const all = AbortSignal.any([stop, idle.signal, ended.signal])
    try {
      const unpacked = unpacker(
        this.stream instanceof IncomingMessage ? givingBack(accept) : accept,
        { whole, ratio },
        all,
      )
      await flow(
        this.stream,
        (piece) => {
          onBytes(piece.length)
          const full = unpacked.accept(piece)
          if (full === undefined) {
            idle.run()
            return undefined
          }
          // The client waits for us, not we for it: its time does not run.
          idle.stop()
          return full.then(() => idle.run())
        },
        AbortSignal.any([all, unpacked.failed]),
      )
      idle.stop()
      await unpacked.end()
    } finally {
      idle.stop()
      ended.abort()
    }
  }
}

/** How long a client has been silent while it could send. */
class IdleClock {
  readonly #silent = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #runs = 0

  constructor(private readonly idleMs: number) {}

  /** Aborted, with the error to reject with, when that is too long. */
  get signal(): AbortSignal {
    return this.#silent.signal
  }

  /**
   * From now. A timer that was cleared never fires again, not even after `refresh`: so there is a
   * new one after each `stop`.
   */
  run(): void {
    this.#runs++
    if (this.#timer) this.#timer.refresh()
    else this.#timer = setTimeout(() => this.#lookAgain(this.#runs), this.idleMs)
  }

  stop(): void {
    this.#runs++
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  /** After a standstill of the process, timers run before sockets are read: sockets get a turn. */
  #lookAgain(runs: number): void {
    setImmediate(() => {
      if (this.#runs !== runs) return
      this.#silent.abort(
        new StrataError('upload_interrupted', `no byte of the upload came for ${this.idleMs / 1000} seconds`),
      )
    })
  }
}

function givingBack(accept: Accept): Accept {
  return (piece) => {
    const full = accept(piece)
    if (full !== undefined) return full.then(() => giveBack(piece))
    giveBack(piece)
    return undefined
  }
}

/** From the first bytes on. */
function unpacker(
  accept: Accept,
  { whole, ratio }: { readonly whole: boolean; readonly ratio: number },
  stop: AbortSignal,
): { accept: Accept; end(): Promise<void>; failed: AbortSignal } {
  const failed = new AbortController()
  let head: Buffer | undefined = Buffer.alloc(0)
  let forward: Accept = accept
  let finish = (): Promise<void> => Promise.resolve()

  const begin = (first: Buffer): Promise<void> | undefined => {
    head = undefined
    const compression = unpackingOf(first, whole)
    if (compression !== 'none') {
      const plain = archiveDecompressor(compression, ratio)
      const done = flow(plain, accept, stop).finally(() => plain.destroy())
      done.catch((error: unknown) => failed.abort(error))
      const either = AbortSignal.any([stop, failed.signal])
      // What ends the wait early ends the whole flow by its own way.
      forward = (piece) =>
        plain.write(piece)
          ? undefined
          : once(plain, 'drain', { signal: either }).then(
              () => undefined,
              () => undefined,
            )
      finish = () => {
        plain.end()
        return done
      }
    }
    return forward(first)
  }
  return {
    accept: (piece) => {
      if (head === undefined) return forward(piece)
      head = Buffer.concat([head, piece])
      return head.length < ARCHIVE_HEAD ? undefined : begin(head)
    },
    end: async () => {
      if (head !== undefined && head.length > 0) await begin(head)
      await finish()
    },
    failed: failed.signal,
  }
}

/**
 * By events, not `for await`: no promise for each piece, and the end of this does not destroy the
 * stream.
 */
function flow(stream: Readable, accept: Accept, stop: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    let isWaiting = false
    let hasEnded = false
    const settle = (act: () => void): void => {
      stream.off('data', onData).off('end', onEnd).off('error', onError)
      stop.removeEventListener('abort', onStop)
      stream.pause()
      act()
    }
    const fail = (error: unknown): void => settle(() => reject(asStrataError(error)))
    const onStop = (): void => fail(stop.reason)
    const onError = (error: Error): void => fail(error)
    const onEnd = (): void => {
      hasEnded = true
      if (!isWaiting) settle(resolve)
    }
    const onData = (piece: Buffer): void => {
      const full = accept(piece)
      if (full === undefined) return
      isWaiting = true
      stream.pause()
      full.then(() => {
        isWaiting = false
        if (stop.aborted) return
        if (hasEnded) settle(resolve)
        else stream.resume()
      }, fail)
    }
    if (stop.aborted) return onStop()
    if (stream.readableEnded) return resolve()
    stop.addEventListener('abort', onStop)
    stream.on('data', onData).once('end', onEnd).once('error', onError)
    stream.resume()
  })
}
