/** What is made fits a processor's cache with all that is done to it. */
export const CHUNK = 256 * 1024

/**
 * Gives a buffer's memory back at once: a thread that is idle collects no garbage. Nobody may use
 * it any more, the kernel and a codec among them: they have its address only.
 */
export function freeBuffer(buffer: Buffer<ArrayBuffer>): void {
  buffer.buffer.transfer(0)
}

/**
 * The memory that an unpacker fills: one chunk is looked at, and perhaps still written, while the
 * other is filled.
 */
export class Chunks implements Disposable {
  readonly #pair = [Buffer.allocUnsafeSlow(CHUNK), Buffer.allocUnsafeSlow(CHUNK)] as const
  #turn: 0 | 1 = 0
  /** Bytes that were handed out. */
  out = 0

  /** To be filled. */
  get current(): Buffer {
    return this.#pair[this.#turn]
  }

  /**
   * The first bytes of `current`: their reader's until he asks for the next but one. The other is
   * `current` then.
   */
  handOut(length: number): Buffer {
    const chunk = this.current.subarray(0, length)
    this.out += length
    this.#turn = this.#turn === 0 ? 1 : 0
    return chunk
  }

  /** When nothing reads or writes what was handed out. */
  [Symbol.dispose](): void {
    this.#pair.forEach(freeBuffer)
  }
}
