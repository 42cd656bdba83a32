/** Bytes on their way out, gathered into chunks. Zeros where nothing was put. */
export class Output {
  readonly #chunk: Buffer
  readonly #write: (chunk: Buffer) => void
  #used = 0
  #flushed = 0

  constructor(write: (chunk: Buffer) => void, size = 256 * 1024) {
    this.#write = write
    this.#chunk = Buffer.alloc(size)
  }

  get position(): number {
    return this.#flushed + this.#used
  }

  /** A view of the next `length` bytes, zeroed, to be filled before the next call. At most a chunk long. */
  take(length: number): { readonly bytes: Buffer; readonly at: number } {
    if (this.#used + length > this.#chunk.length) this.flush()
    const at = this.#used
    this.#used += length
    return { bytes: this.#chunk, at }
  }

  put(bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length; ) {
      if (this.#used === this.#chunk.length) this.flush()
      const part = Math.min(bytes.length - from, this.#chunk.length - this.#used)
      this.#chunk.set(bytes.subarray(from, from + part), this.#used)
      this.#used += part
      from += part
    }
  }

  /** Zeros up to `position`. */
  padTo(position: number): void {
    while (this.position < position) {
      if (this.#used === this.#chunk.length) this.flush()
      this.#used += Math.min(position - this.position, this.#chunk.length - this.#used)
    }
  }

  flush(): void {
    if (this.#used === 0) return
    this.#write(this.#chunk.subarray(0, this.#used))
    this.#flushed += this.#used
    this.#chunk.fill(0, 0, this.#used)
    this.#used = 0
  }
}
