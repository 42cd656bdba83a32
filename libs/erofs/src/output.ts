/** Bytes on their way out, gathered into chunks. Zeros where nothing was put. */
export class Output {
  readonly bytes: Buffer
  readonly view: DataView
  readonly #write: (chunk: Buffer) => void
  #used = 0
  #flushed = 0

  constructor(write: (chunk: Buffer) => void, size = 256 * 1024) {
    this.#write = write
    this.bytes = Buffer.alloc(size)
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, size)
  }

  get position(): number {
    return this.#flushed + this.#used
  }

  /**
   * Room for the next `length` bytes, at most a chunk: their place in `bytes` and `view`, to be
   * filled before the next call. They are zeros.
   */
  take(length: number): number {
    if (this.#used + length > this.bytes.length) this.flush()
    const at = this.#used
    this.#used += length
    return at
  }

  put(bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length;) {
      if (this.#used === this.bytes.length) this.flush()
      const part = Math.min(bytes.length - from, this.bytes.length - this.#used)
      this.bytes.set(bytes.subarray(from, from + part), this.#used)
      this.#used += part
      from += part
    }
  }

  /** Zeros up to `position`. */
  padTo(position: number): void {
    for (let missing = position - this.position; missing > 0;) {
      if (this.#used === this.bytes.length) this.flush()
      const part = Math.min(missing, this.bytes.length - this.#used)
      this.#used += part
      missing -= part
    }
  }

  flush(): void {
    if (this.#used === 0) return
    this.#write(this.bytes.subarray(0, this.#used))
    this.#flushed += this.#used
    this.bytes.fill(0, 0, this.#used)
    this.#used = 0
  }
}
