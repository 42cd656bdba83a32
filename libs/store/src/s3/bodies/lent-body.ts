import type { IncomingMessage } from 'node:http'
import { StrataError } from '@strata/base'
import type { Lender } from '../../objects/lent-chunks.js'
import { bodyMemory, MOST_HELD, UNIT } from './body-memory.js'
import { PAUSE_MS, ResumingBody, type Reopen } from './resuming-body.js'
import type { ByteRange } from '../../objects/object-store.js'

/** Pieces that are on their way while one is read, if there is room for them. */
const AHEAD = 2
/**
 * The same while half of the memory of bodies is free. On a busy machine an answer begins late, and
 * more of them hide that.
 */
const MOST_AHEAD = 6
/** What a reader that is not slow takes while it is waited for, `PAUSE_MS` in all. */
const LEAST_TAKEN = 2 * 1024 * 1024
/** What reads leave of the memory of bodies: uploads go on beside readers that stand still. */
const LEFT_FREE = 8 * 1024 * 1024

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
 * one answer, and its chunks are the reader's. Lent, it comes in pieces: two to six of them are on
 * their way while one is read, each in a buffer that is used again.
 *
 * - A piece that fails is requested by the ordinary client, from the byte where it stopped.
 * - If the process has no memory for a piece, that piece is streamed.
 * - A reader that was waited for 2 s, all waits for 2 MiB together, gives back the pieces that it
 *   has not begun. While it is that slow, what follows is streamed. No connection waits for a
 *   reader, and a slow one holds no memory but that of the piece that it has begun.
 * - When the iteration ends or the body is destroyed, the connections of pieces under way are
 *   closed, and their buffers are given back.
 */
export class LentBody extends ResumingBody implements Lender {
  readonly #firstEnd: number
  /** Requested, and not begun to be read. */
  readonly #ahead: Piece[] = []
  /** The same, and the one that is read. */
  readonly #held = new Set<Piece>()
  /** Where the piece begins that is requested next. */
  #next: number
  /**
   * How many pieces may be requested ahead: none for a slow reader, and one more each time that it
   * takes `LEAST_TAKEN` in time.
   */
  #most = MOST_AHEAD

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
    const stop = (): void => {
      for (const piece of this.#held) piece.stop.abort()
      this.#forget()
    }
    let [taken, waitedMs] = [0, 0]
    const pause = (): void => {
      this.#most = -1
      ;[taken, waitedMs] = [0, 0]
      this.#forget()
    }
    // Its error is the iteration's to tell.
    this.on('error', () => undefined)
    this.over.addEventListener('abort', stop)
    try {
      for await (const chunk of this.#chunks()) {
        const pausing = setTimeout(pause, PAUSE_MS - waitedMs)
        const begun = performance.now()
        const { length } = chunk
        try {
          yield chunk
        } finally {
          clearTimeout(pausing)
        }
        taken += length
        waitedMs += performance.now() - begun
        if (waitedMs >= PAUSE_MS) pause()
        else if (taken >= LEAST_TAKEN) {
          this.#most = Math.min(this.#most + 1, MOST_AHEAD)
          ;[taken, waitedMs] = [0, 0]
        }
        this.#throwIfDestroyed()
      }
    } catch (error) {
      throw this.errored ?? error
    } finally {
      this.over.removeEventListener('abort', stop)
      this.#forget()
      this.destroy()
    }
  }

  async *#chunks(): AsyncGenerator<Buffer> {
    this.#throwIfDestroyed()
    const { start, end } = this.range
    this.#requestAhead()
    yield* this.#streamed({ start, end: this.#firstEnd }, this.over, this.takeFirst())
    while (this.#next < end || this.#ahead.length > 0) {
      if (this.#most >= 0) this.#requestAhead(Math.max(this.#most, 1))
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
      yield piece.buffer.subarray(0, piece.range.end - piece.range.start)
    } finally {
      await this.#giveBack(piece)
    }
  }

  #requestAhead(most = this.#most): void {
    while (this.#next < this.range.end && this.#ahead.length < most && this.#hasRoom()) {
      this.memory.hold(UNIT)
      const [range, buffer, stop] = [this.#nextRange(), this.memory.take(), new AbortController()]
      const filled = this.#fill(range, buffer, stop.signal)
      filled.catch(() => undefined) // it is told when the piece is read
      const piece = { range, buffer, stop, filled }
      this.#ahead.push(piece)
      this.#held.add(piece)
      this.#next = range.end
    }
  }

  #hasRoom(): boolean {
    return this.memory.hasRoom(this.#ahead.length < AHEAD ? UNIT + LEFT_FREE : MOST_HELD / 2)
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
  async #giveBack(piece: Piece): Promise<void> {
    const { buffer, stop, filled } = piece
    stop.abort()
    await filled.catch(() => undefined)
    this.#held.delete(piece)
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
