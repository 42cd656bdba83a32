import type { RemoteLimits } from '../limits.js'
import type { BlobAnswer, BlobSource } from './blob-source.js'
import type { RangeMemory } from './range-memory.js'

interface Piece {
  readonly start: number
  readonly end: number
  readonly buffer: Buffer
  readonly stop: AbortController
  /** When nothing is written into the buffer any more. */
  ended: Promise<void>
  filled: number
  failure: { readonly error: unknown } | undefined
  changed: PromiseWithResolvers<undefined>
}

/**
 * A blob by several ranges at once, in order. Each range has a buffer that its bytes are copied
 * into while the reader is elsewhere; the reader gets what is there without waiting for the whole
 * range. Without memory for any, the next range is read as a stream.
 */
export class RangedBody {
  readonly #pieces: Piece[] = []
  #next: number

  constructor(
    private readonly source: BlobSource,
    private readonly start: number,
    private first: BlobAnswer | undefined,
    private readonly memory: RangeMemory,
    private readonly limits: RemoteLimits,
    private readonly signal: AbortSignal,
  ) {
    this.#next = start
  }

  async *read(): AsyncGenerator<Uint8Array, undefined> {
    try {
      let at = this.start
      while (at < this.source.size) {
        this.#begin()
        const piece = this.#pieces[0]
        if (piece) {
          yield* this.#bytesOf(piece)
          at = piece.end
          this.#pieces.shift()
          this.memory.giveBack(piece.buffer)
        } else {
          const end = this.#end(at)
          this.#next = end
          yield* this.source.bytes({ start: at, end }, this.signal, this.#takeFirst())
          at = end
        }
      }
    } finally {
      this.#takeFirst()?.answer.message.destroy()
      await Promise.all(this.#pieces.map(async (piece) => await this.#drop(piece)))
    }
  }

  #begin(): void {
    while (this.#pieces.length < this.limits.maxRanges && this.#next < this.source.size) {
      const buffer = this.memory.take()
      if (!buffer) return
      const piece: Piece = {
        start: this.#next,
        end: this.#end(this.#next),
        buffer,
        stop: new AbortController(),
        ended: Promise.resolve(),
        filled: 0,
        failure: undefined,
        changed: Promise.withResolvers(),
      }
      this.#next = piece.end
      this.#pieces.push(piece)
      piece.ended = this.#fill(piece, this.#takeFirst())
    }
  }

  async #fill(piece: Piece, first: BlobAnswer | undefined): Promise<void> {
    const { start, end, buffer, stop } = piece
    try {
      const signal = AbortSignal.any([this.signal, stop.signal])
      for await (const chunk of this.source.bytes({ start, end }, signal, first)) {
        buffer.set(chunk, piece.filled)
        piece.filled += chunk.length
        this.#tell(piece)
      }
    } catch (error) {
      piece.failure = { error }
      this.#tell(piece)
    }
  }

  #tell(piece: Piece): void {
    piece.changed.resolve(undefined)
    piece.changed = Promise.withResolvers()
  }

  async *#bytesOf(piece: Piece): AsyncGenerator<Uint8Array, undefined> {
    const length = piece.end - piece.start
    for (let read = 0; read < length;) {
      if (piece.filled > read) {
        const chunk = piece.buffer.subarray(read, piece.filled)
        read = piece.filled
        yield chunk
      } else if (piece.failure) throw piece.failure.error
      else await piece.changed.promise
    }
    await piece.ended
  }

  async #drop(piece: Piece): Promise<void> {
    piece.stop.abort()
    await piece.ended
    this.memory.giveBack(piece.buffer)
  }

  #end(start: number): number {
    return Math.min(start + this.limits.rangeBytes, this.source.size)
  }

  #takeFirst(): BlobAnswer | undefined {
    const { first } = this
    this.first = undefined
    return first
  }
}
