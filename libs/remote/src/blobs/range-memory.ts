/**
 * The buffers of ranges that are under way in a process, all of one size. There is a most of them,
 * and nobody waits for one: without it a blob is read as one stream. They are used again while any
 * is in use, since new memory has to be cleared; after that they are dropped.
 */
export class RangeMemory {
  readonly #free: Buffer[] = []
  #taken = 0

  constructor(
    private readonly bytes: number,
    private readonly most: number,
  ) {}

  /** In bytes. */
  get held(): number {
    return this.#taken * this.bytes
  }

  take(): Buffer | undefined {
    if ((this.#taken + 1) * this.bytes > this.most) return undefined
    this.#taken++
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.bytes)
  }

  giveBack(buffer: Buffer): void {
    this.#taken--
    if (this.#taken > 0) this.#free.push(buffer)
    else this.#free.length = 0
  }
}
