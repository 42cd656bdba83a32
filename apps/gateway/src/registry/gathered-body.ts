import type { IncomingMessage } from 'node:http'
import { StrataError } from '@strata/base'
import { giveBack } from '@strata/intake'

/** How slow the client of a body may be. */
export interface SlowestClient {
  /** How long it may send nothing. */
  readonly idleMs: number
  /**
   * How many bytes a second it has to send, on the average of the time in which this process waits
   * for them, counted each time that this adds up to `idleMs`. A time in which the process stood
   * still is none of that.
   */
  readonly bytesPerSecond: number
}

/**
 * Bytes of a body that are hashed and written at a time. Node gives a body in pieces of at most
 * 64 KiB, and each write takes a trip to the thread pool. A body has two buffers of this size.
 */
const GATHERED = 256 * 1024

/**
 * A wait is counted in parts of so many milliseconds, each as one however long it took: a process
 * that stood still (SIGSTOP, a machine that sleeps) could read nothing, whatever came meanwhile.
 */
const PART_MS = 1_000

/**
 * The bytes of a request's body, gathered into larger chunks. A chunk is lent: its memory is used
 * again when the next one is asked for. While the reader has one, the next one is received.
 *
 * - If the body breaks off, or its client is slower than `slowest`, the iteration gives what came,
 *   and then throws `upload_interrupted` or `request_timeout`.
 * - If the iteration is left early, the request can still be answered, and what still comes of its
 *   body can be read and dropped. A reader that may be left while it waits for the client ends with
 *   `stop`: the iteration's own end would come after that wait.
 */
export class GatheredBody implements AsyncIterable<Uint8Array> {
  #filling: Buffer | undefined
  #lent: Buffer | undefined
  #length = 0
  /** What came while `#filling` was full. */
  #rest: Buffer[] = []
  #isOver = false
  #failure: StrataError | undefined
  /** Ends the wait of the reader; `undefined` if it does not wait. */
  #wake: (() => void) | undefined
  /** Ends the reading of the request; `undefined` if it is not read. */
  #leave: (() => void) | undefined
  /** The window of the least rate: what came in it, and how long the reader has waited. */
  #came = 0
  #waitedMs = 0
  #waitsSince = 0
  /** How long the reader has waited since the last piece. */
  #silentMs = 0

  /** @param length as the parser of the request enforces it, where it does */
  constructor(
    private readonly request: IncomingMessage,
    private readonly slowest: SlowestClient,
    private readonly length = Infinity,
  ) {}

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    const { request } = this
    const onPiece = (piece: Buffer): void => this.#take(piece)
    const onEnd = (): void => this.#end()
    const onBreak = (cause?: Error): void =>
      this.#end(new StrataError('upload_interrupted', 'the connection was closed before the body was whole', { cause }))
    request.on('data', onPiece).once('end', onEnd).once('error', onBreak).once('close', onBreak)
    this.#leave = () => {
      request.pause()
      request.off('data', onPiece).off('end', onEnd).off('error', onBreak).off('close', onBreak)
    }
    if (request.readableEnded) onEnd()
    else if (request.destroyed) onBreak()
    else request.resume()
    try {
      for (;;) {
        if (!this.#isFull && !this.#isOver) await this.#wait()
        const chunk = this.#filling?.subarray(0, this.#length)
        ;[this.#filling, this.#lent] = [this.#lent, this.#filling]
        this.#length = 0
        this.#takeRest()
        if (chunk && chunk.length > 0) yield chunk
        else if (this.#failure) throw this.#failure
        else return
      }
    } finally {
      this.#endReading()
    }
  }

  /** Nobody reads on. From here on the request is the caller's. */
  stop(): void {
    this.#endReading()
    this.#end()
  }

  /** Once: after that, whoever has the request may read it. */
  #endReading(): void {
    this.#leave?.()
    this.#leave = undefined
  }

  get #isFull(): boolean {
    return this.#filling !== undefined && this.#length === this.#filling.length
  }

  #take(piece: Buffer): void {
    this.#came += piece.length
    if (this.#wake) this.#expectRate()
    this.#put(piece)
    // The part that is under way began before.
    this.#silentMs = -this.#partMs
    if (!this.#isFull) return
    if (this.#wake) this.#wake()
    else this.request.pause()
  }

  #put(piece: Buffer): void {
    this.#filling ??= Buffer.allocUnsafeSlow(Math.min(GATHERED, this.length))
    const copied = piece.copy(this.#filling, this.#length)
    this.#length += copied
    if (copied < piece.length) this.#rest.push(piece.subarray(copied))
    else giveBack(piece)
  }

  #takeRest(): void {
    for (const piece of this.#rest.splice(0)) this.#put(piece)
    if (!this.#isFull && !this.#isOver && this.request.isPaused()) this.request.resume()
  }

  #end(failure?: StrataError): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#failure = failure
    this.#wake?.()
  }

  /** Resolves when a chunk is full, or nothing follows it. */
  async #wait(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const { idleMs } = this.slowest
    this.#waitsSince = performance.now()
    this.#silentMs = 0
    const parts = setInterval(() => {
      this.#waitedMs += this.#partMs
      this.#waitsSince = performance.now()
      this.#silentMs += this.#partMs
      // A timer comes before what the kernel has, and `setImmediate` behind it.
      if (this.#silentMs >= idleMs) setImmediate(() => this.#expectPiece())
    }, this.#partMs)
    this.#wake = () => {
      this.#wake = undefined
      resolve(undefined)
    }
    await promise
    clearInterval(parts)
    this.#waitedMs += this.#partSince(performance.now())
  }

  get #partMs(): number {
    return Math.min(PART_MS, this.slowest.idleMs)
  }

  #partSince(now: number): number {
    return Math.min(now - this.#waitsSince, this.#partMs)
  }

  #expectPiece(): void {
    const { idleMs } = this.slowest
    if (this.#silentMs >= idleMs)
      this.#end(new StrataError('request_timeout', `nothing came of the body for ${idleMs / 1000} seconds`))
  }

  #expectRate(): void {
    const now = performance.now()
    const waited = this.#waitedMs + this.#partSince(now)
    if (waited < this.slowest.idleMs) return
    const { bytesPerSecond } = this.slowest
    if (this.#came < (bytesPerSecond * waited) / 1_000)
      this.#end(
        new StrataError(
          'request_timeout',
          `${this.#came} bytes came of the body in ${Math.round(waited / 1_000)} seconds: at least ${bytesPerSecond} a second are asked for (STRATA_PUSH_MIN_RATE)`,
        ),
      )
    ;[this.#waitedMs, this.#waitsSince, this.#came] = [0, now, 0]
  }
}
