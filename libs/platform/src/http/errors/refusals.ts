const TELL_EVERY_MS = 60_000

/**
 * What the log says of refused requests: the first one, and once a minute how many more there were.
 * Anyone may cause them, so a line for each would let a client without a token fill the disk.
 */
export class Refusals {
  #more = 0
  #timer: NodeJS.Timeout | undefined

  constructor(private readonly log: (line: string) => void) {}

  add(line: string): void {
    if (this.#timer !== undefined) {
      this.#more++
      return
    }
    this.log(line)
    this.#timer = setTimeout(() => this.#tellMore(), TELL_EVERY_MS).unref()
  }

  #tellMore(): void {
    this.#timer = undefined
    if (this.#more > 0) this.log(`refused in the last minute: ${this.#more} more`)
    this.#more = 0
  }
}
