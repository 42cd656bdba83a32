import type { IncomingMessage } from 'node:http'
import { StrataError } from '@strata/base'
import type { Lender } from '../objects/lent-chunks.js'
import { bodyMemory, UNIT } from './body-memory.js'
import { PAUSE_MS, ResumingBody, type Reopen } from './resuming-body.js'
import type { ByteRange } from '../objects/object-store.js'

/** Pieces that are on their way while one is read. */
const AHEAD = 2
/** The longest chunk that is lent. Its user may hash it at once, and that holds up the process. */
const MOST_LENT = 1024 * 1024

/**
 * Reads a range straight into memory. Resolves with how many of its bytes, from the first, are
 * there; when it has resolved, nothing more is written there.
 */
export type ReadInto = (range: ByteRange, into: Buffer, signal: AbortSignal) => Promise<number>

interface Piece {
  readonly range: ByteRange
  readonly buffer: Buffer
  readonly stop: AbortController
  readonly filled: Promise<void>
}

/**
 * A body that also lends its bytes. Read as a stream, it requests what its first answer lacks as
 * one answer, and its chunks are the reader's. Lent, it comes in pieces: two of them are on their
 * way while one is read, each in a buffer that is used again.
 *
 * - A piece that fails is requested by the ordinary client, from the byte where it stopped.
 * - If the process has no memory for a piece, that piece is streamed.
 * - A reader that takes nothing for 2 s gives back the pieces that it has not begun. They are
 *   requested again when it goes on. No connection waits for a reader.
 * - When the iteration ends or the body is destroyed, the connections of pieces under way are
 *   closed, and their buffers are given back.
 */
export class LentBody extends ResumingBody implements Lender {
  readonly #firstEnd: number
  readonly #ahead: Piece[] = []
  /** Where the piece begins that is requested next. */
  #next: number

  /** `first` has the bytes up to `firstEnd`. */
  constructor(
    {
      first,
      firstEnd,
      range,
    }: { readonly first: IncomingMessage; readonly firstEnd: number; readonly range: ByteRange },
    open: Reopen,
    private readonly readInto: ReadInto,
    private readonly memory = bodyMemory,
  ) {
    super(first, range, open)
    this.#firstEnd = firstEnd
    this.#next = firstEnd
  }

  async *lend(): AsyncGenerator<Buffer> {
    const forget = (): void => this.#forget()
    // Its error is the iteration's to tell.
    this.on('error', () => undefined)
    this.over.addEventListener('abort', forget)
    try {
      for await (const chunk of this.#chunks()) {
        const pausing = setTimeout(forget, PAUSE_MS)
        try {
          yield chunk
        } finally {
          clearTimeout(pausing)
        }
        this.#throwIfDestroyed()
      }
    } catch (error) {
      throw this.errored ?? error
    } finally {
      this.over.removeEventListener('abort', forget)
      forget()
      this.destroy()
    }
  }

  async *#chunks(): AsyncGenerator<Buffer> {
    const { start, end } = this.range
    this.#requestAhead()
    yield* this.#streamed({ start, end: this.#firstEnd }, this.over, this.takeFirst())
    while (this.#next < end || this.#ahead.length > 0) {
      this.#requestAhead()
      const piece = this.#ahead.shift()
      if (piece) yield* this.#lent(piece)
      else {
        const range = this.#nextRange()
        this.#next = range.end
        yield* this.#streamed(range, this.over)
      }
    }
  }

  async *#lent(piece: Piece): AsyncGenerator<Buffer> {
    try {
      await piece.filled
      this.#requestAhead()
      const { start, end } = piece.range
      for (let at = 0; at < end - start; at += MOST_LENT)
        yield piece.buffer.subarray(at, Math.min(at + MOST_LENT, end - start))
    } finally {
      await this.#giveBack(piece)
    }
  }

  #requestAhead(): void {
    while (this.#next < this.range.end && this.#ahead.length < AHEAD && this.memory.hasRoom(UNIT)) {
      this.memory.hold(UNIT)
      const [range, buffer, stop] = [this.#nextRange(), this.memory.take(), new AbortController()]
      const filled = this.#fill(range, buffer, AbortSignal.any([this.over, stop.signal]))
      filled.catch(() => undefined) // it is told when the piece is read
      this.#ahead.push({ range, buffer, stop, filled })
      this.#next = range.end
    }
  }

  #nextRange(): ByteRange {
    return { start: this.#next, end: Math.min(this.#next + UNIT, this.range.end) }
  }

  async #fill(range: ByteRange, buffer: Buffer, signal: AbortSignal): Promise<void> {
    const into = buffer.subarray(0, range.end - range.start)
    let length = await this.readInto(range, into, signal)
    if (length === into.length) return
    for await (const chunk of this.#streamed({ start: range.start + length, end: range.end }, signal)) {
      into.set(chunk, length)
      length += chunk.length
    }
  }

  async *#streamed(range: ByteRange, signal: AbortSignal, first?: IncomingMessage): AsyncGenerator<Buffer> {
    const body = new ResumingBody(first, range, this.open)
    const stop = (): void => void body.destroy(leftEarly())
    body.on('error', () => undefined)
    signal.addEventListener('abort', stop)
    try {
      if (signal.aborted) throw leftEarly()
      yield* body as AsyncIterable<Buffer>
    } finally {
      signal.removeEventListener('abort', stop)
      body.destroy()
    }
  }

  /** Pieces that nobody has begun to read. They can be requested again. */
  #forget(): void {
    this.#next = this.#ahead[0]?.range.start ?? this.#next
    for (const piece of this.#ahead.splice(0)) void this.#giveBack(piece)
  }

  /** Only when nothing is written into its buffer any more. */
  async #giveBack({ buffer, stop, filled }: Piece): Promise<void> {
    stop.abort()
    await filled.catch(() => undefined)
    this.memory.release(UNIT)
    this.memory.giveBack([buffer])
  }

  #throwIfDestroyed(): void {
    if (this.destroyed) throw this.errored ?? leftEarly()
  }
}

function leftEarly(): StrataError {
  return new StrataError('cancelled', 'the body was closed while it was read')
}
