import { StrataError } from '@strata/base'

/**
 * Opens a layer's tar at `start` or before it. `at` is where the stream begins. The stream may end
 * before the tar does, but not before `start`.
 */
export type OpenTar = (start: number) => Promise<{ readonly at: number; readonly body: AsyncIterable<Uint8Array> }>

/**
 * Reads parts of one layer's tar, one after the other. An open stream is read on, and up to
 * `maxSkip` bytes between two parts are skipped. Otherwise the tar is opened again. So parts in the
 * order of the tar take one pass over it.
 */
export class LayerCursor implements AsyncDisposable {
  #body: AsyncIterator<Uint8Array> | undefined
  #position = 0
  /** The `start` that the open stream was opened for. */
  #opened = 0
  /** Bytes that were read and not taken yet. They begin at `#position`. */
  #rest: Uint8Array = NOTHING

  constructor(
    private readonly open: OpenTar,
    private readonly maxSkip: number,
  ) {}

  /**
   * The bytes from `start` to `end`, exclusive.
   * @throws StrataError `corrupt` if the tar ends before `end`
   */
  async *take(start: number, end: number): AsyncGenerator<Uint8Array> {
    if (this.#body === undefined || start < this.#position || start - this.#position > this.maxSkip)
      await this.#openAt(start)
    while (this.#position < end) {
      if (this.#rest.length === 0) {
        const next = await this.#body!.next()
        if (next.done) {
          if (this.#position <= this.#opened)
            throw new StrataError('corrupt', `the layer's tar ends at ${this.#position}, before ${end}`)
          await this.#openAt(this.#position)
          continue
        }
        this.#rest = next.value
      }
      const piece = this.#rest
      const from = Math.min(piece.length, Math.max(0, start - this.#position))
      const to = Math.min(piece.length, end - this.#position)
      this.#rest = piece.subarray(to)
      this.#position += to
      if (from < to) yield piece.subarray(from, to)
    }
  }

  async #openAt(start: number): Promise<void> {
    await this[Symbol.asyncDispose]()
    const { at, body } = await this.open(start)
    this.#body = body[Symbol.asyncIterator]()
    this.#position = at
    this.#opened = start
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const body = this.#body
    this.#body = undefined
    this.#rest = NOTHING
    await body?.return?.()
  }
}

const NOTHING = new Uint8Array(0)
