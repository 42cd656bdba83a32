/**
 * Cuts a stream of bytes into pieces of given sizes, one after another. A piece is read to its end
 * before the next one is asked for. Chunks are lent, as those of the stream.
 */
export class Cut {
  readonly #source: AsyncIterator<Uint8Array, undefined>
  #rest: Uint8Array = new Uint8Array()

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]() as AsyncIterator<Uint8Array, undefined>
  }

  /** The next so many bytes; fewer if the stream ends before. `onBytes` is told of each chunk. */
  async *next(size: number, onBytes: (bytes: number) => void = () => undefined): AsyncGenerator<Uint8Array> {
    for (let left = size; left > 0;) {
      if (this.#rest.length === 0) {
        const { done, value } = await this.#source.next()
        if (done) return
        this.#rest = value
        continue
      }
      const chunk = this.#rest.subarray(0, left)
      this.#rest = this.#rest.subarray(chunk.length)
      left -= chunk.length
      onBytes(chunk.length)
      yield chunk
    }
  }

  /** To be called at the end, whatever came of it: the stream lets go of its connection. */
  async close(): Promise<void> {
    await this.#source.return?.()
  }
}
