import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { StrataError } from '@strata/base'
import type { ByteRange } from '../../objects/object-store.js'

/** A server that sends nothing for this long, while a reader waits, counts as gone. */
const SILENCE_MS = 15_000
/**
 * If an answer has waited for its reader this long in all, the body closes its connection: MinIO
 * deletes no object that it is sending. A reader that takes little, and often, waits no less.
 */
export const PAUSE_MS = 2_000
/** How many answers in a row may break off before their first byte. */
const EMPTY_ANSWERS = 5

/** The answer with bytes of one state of an object. @throws the error that the reader gets */
export type Reopen = (range: ByteRange, signal: AbortSignal) => Promise<IncomingMessage>

/**
 * The bytes from `start` to `end` of an object, requested as fast as they are read here. If an
 * answer breaks off (the server ended it, or it was closed because its reader paused), the body
 * requests the rest. So `first` may also be an answer with fewer bytes, or none.
 */
export class ResumingBody extends Readable {
  #first: IncomingMessage | undefined
  #answer: IncomingMessage | undefined
  #at: number
  #empty = 0
  #wanted = false
  /** Of the request that is on its way. */
  #opening: AbortController | undefined
  #timer: NodeJS.Timeout | undefined
  /** For how long the answer has waited for the reader, in ms, and since when it waits. */
  #waitedMs = 0
  #pausedAt: number | undefined
  readonly #over = new AbortController()

  constructor(
    first: IncomingMessage | undefined,
    protected readonly range: ByteRange,
    protected readonly open: Reopen,
  ) {
    super({ highWaterMark: 256 * 1024 })
    this.#at = range.start
    if (first) this.#keep(first)
  }

  /** Aborts when the body is destroyed. */
  get over(): AbortSignal {
    return this.#over.signal
  }

  /** The first answer, unless it was taken before, or waited for its reader for too long. */
  takeFirst(): IncomingMessage | undefined {
    const first = this.#first
    this.#first = undefined
    clearTimeout(this.#timer)
    return first
  }

  override _read(): void {
    this.#wanted = true
    const first = this.takeFirst()
    if (first) this.#follow(first)
    else if (this.#answer) this.#flow(this.#answer)
    else if (!this.#opening) void this.#resume()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.#timer)
    this.#over.abort()
    this.#opening?.abort()
    this.#first?.destroy()
    // An answer read to its end leaves a connection that can be used again.
    if (this.#at === this.range.end) this.#answer?.resume()
    else this.#answer?.destroy()
    done(error)
  }

  #keep(first: IncomingMessage): void {
    this.#first = first
    first.setTimeout(0)
    this.#drop(first, PAUSE_MS)
    first.once('close', () => {
      if (this.#first === first) this.#first = undefined
    })
  }

  #follow(answer: IncomingMessage): void {
    this.#answer = answer
    this.#waitedMs = 0
    this.#pausedAt = undefined
    answer.setTimeout(0)
    answer.on('data', (chunk: Buffer) => {
      this.#at += chunk.length
      this.#empty = 0
      this.#timer?.refresh()
      const more = this.push(chunk)
      if (this.#at >= this.range.end) this.#finish()
      else if (!more) this.#pause(answer)
    })
    answer.once('close', () => {
      clearTimeout(this.#timer)
      this.#answer = undefined
      if (this.#at < this.range.end && this.#wanted && !this.destroyed) void this.#resume()
    })
    if (this.#at >= this.range.end) this.#finish()
    else if (this.#wanted) this.#flow(answer)
    else this.#pause(answer)
  }

  #flow(answer: IncomingMessage): void {
    if (this.#pausedAt !== undefined) this.#waitedMs += performance.now() - this.#pausedAt
    this.#pausedAt = undefined
    this.#drop(answer, SILENCE_MS)
    answer.resume()
  }

  #pause(answer: IncomingMessage): void {
    this.#wanted = false
    answer.pause()
    this.#pausedAt ??= performance.now()
    this.#drop(answer, PAUSE_MS - this.#waitedMs)
  }

  #drop(answer: IncomingMessage, after: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => answer.destroy(), after)
  }

  #finish(): void {
    clearTimeout(this.#timer)
    this.#answer?.resume()
    if (this.#at > this.range.end)
      this.destroy(
        new StrataError(
          'store_unavailable',
          `the S3 server gives a body more than the ${this.range.end} bytes that it announced`,
        ),
      )
    else this.push(null)
  }

  async #resume(): Promise<void> {
    this.#opening = new AbortController()
    try {
      if (++this.#empty > EMPTY_ANSWERS)
        throw new StrataError(
          'store_unavailable',
          `the S3 server breaks a body off at byte ${this.#at} of ${this.range.end}, again and again`,
        )
      const answer = await this.open({ start: this.#at, end: this.range.end }, this.#opening.signal)
      if (this.destroyed) answer.destroy()
      else this.#follow(answer)
    } catch (error) {
      this.destroy(error as Error)
    } finally {
      this.#opening = undefined
    }
  }
}
