const MIB = 1024 * 1024

/** The size of the buffers: a piece that is read has one, a part that is sent several. */
export const UNIT = 4 * MIB
/**
 * What the bodies under way in a process may hold together. One upload or one read by itself is no
 * faster with more (docs/performance.md). Beyond it an upload holds one part, and a read no buffer.
 */
export const MOST_HELD = 64 * MIB

/**
 * The memory of the bodies that go to S3 servers and come from them: buffers that are used again,
 * and one count of all that is held. What a client has not sent yet is not held: a part of 16 MiB
 * of a client that sends slowly has one buffer until that is full. A buffer that is dropped would
 * stay in memory until the next garbage collection, so as many are kept as may be held.
 */
export class BodyMemory {
  readonly #free: Buffer[] = []
  #held = 0
  #promised = 0

  /** In bytes: of whole buffers. */
  get held(): number {
    return this.#held
  }

  /** In bytes: what parts that are being filled will take beside what is held. */
  get promised(): number {
    return this.#promised
  }

  hasRoom(bytes: number): boolean {
    return this.#held + bytes <= MOST_HELD
  }

  /** Counts bytes as held, whether or not there is room for them. */
  hold(bytes: number): void {
    this.#held += bytes
  }

  release(bytes: number): void {
    this.#held -= bytes
  }

  /** A negative number takes a promise back: the bytes are held now, or do not come. */
  promise(bytes: number): void {
    this.#promised += bytes
  }

  /** A buffer of `UNIT` bytes, which counts as part of what its taker holds. */
  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(UNIT)
  }

  giveBack(buffers: readonly Buffer[]): void {
    for (const buffer of buffers) if (this.#free.length < MOST_HELD / UNIT) this.#free.push(buffer)
  }
}

/** That of this process. */
export const bodyMemory = new BodyMemory()
