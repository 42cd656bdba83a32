/** What is made fits a processor's cache with all that is done to it. */
export const CHUNK = 256 * 1024

/**
 * The memory that an unpacker fills: one chunk is looked at, and perhaps still written, while the
 * other is filled.
 */
export class Chunks {
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
}
