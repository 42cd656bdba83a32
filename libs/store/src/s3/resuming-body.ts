import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { StrataError } from '@strata/base'

/** A server that sends nothing for this long, while a reader waits, counts as gone. */
const SILENCE_MS = 15_000
/**
 * If its reader takes nothing for this long, the body closes its connection: MinIO deletes no
 * object that it is sending.
 */
const PAUSE_MS = 2_000
/** How many answers in a row may break off before their first byte. */
const EMPTY_ANSWERS = 5

/**
 * The bytes from `start` to `end` of an object, requested as fast as they are read here. If an
 * answer breaks off (the server ended it, or it was closed because its reader paused), the body
 * requests the rest. `open` gives the rest, of the same state of the object, or throws the error
 * that the reader gets.
 */
export class ResumingBody extends Readable {
  #answer: IncomingMessage | undefined
  #at: number
  #empty = 0
  #wanted = false
  #opening = false
  #timer: NodeJS.Timeout | undefined
  readonly #over = new AbortController()

  constructor(
    answer: IncomingMessage,
    start: number,
    private readonly end: number,
    private readonly open: (at: number, signal: AbortSignal) => Promise<IncomingMessage>,
  ) {
    super({ highWaterMark: 256 * 1024 })
    this.#at = start
    this.#follow(answer)
  }

  override _read(): void {
    this.#wanted = true
    if (this.#answer) this.#flow(this.#answer)
    else if (!this.#opening) void this.#resume()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.#timer)
    this.#over.abort()
    // An answer read to its end leaves a connection that can be used again.
    if (this.#at === this.end) this.#answer?.resume()
    else this.#answer?.destroy()
    done(error)
  }

  #follow(answer: IncomingMessage): void {
    this.#answer = answer
    answer.setTimeout(0)
    answer.on('data', (chunk: Buffer) => {
      this.#at += chunk.length
      this.#empty = 0
      this.#timer?.refresh()
      const more = this.push(chunk)
      if (this.#at >= this.end) this.#finish()
      else if (!more) this.#pause(answer)
    })
    answer.once('close', () => {
      clearTimeout(this.#timer)
      this.#answer = undefined
      if (this.#at < this.end && this.#wanted && !this.destroyed) void this.#resume()
    })
    if (this.#at >= this.end) this.#finish()
    else if (this.#wanted) this.#flow(answer)
    else this.#pause(answer)
  }

  #flow(answer: IncomingMessage): void {
    this.#drop(answer, SILENCE_MS)
    answer.resume()
  }

  #pause(answer: IncomingMessage): void {
    this.#wanted = false
    answer.pause()
    this.#drop(answer, PAUSE_MS)
  }

  #drop(answer: IncomingMessage, after: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => answer.destroy(), after)
  }

  #finish(): void {
    clearTimeout(this.#timer)
    this.#answer?.resume()
    if (this.#at > this.end)
      this.destroy(
        new StrataError(
          'store_unavailable',
          `the S3 server gives a body more than the ${this.end} bytes that it announced`,
        ),
      )
    else this.push(null)
  }

  async #resume(): Promise<void> {
    this.#opening = true
    try {
      if (++this.#empty > EMPTY_ANSWERS)
        throw new StrataError(
          'store_unavailable',
          `the S3 server breaks a body off at byte ${this.#at} of ${this.end}, again and again`,
        )
      const answer = await this.open(this.#at, this.#over.signal)
      if (this.destroyed) answer.destroy()
      else this.#follow(answer)
    } catch (error) {
      this.destroy(error as Error)
    } finally {
      this.#opening = false
    }
  }
}
