/**
 * Pieces from one who makes them to one who takes them, as the source of a store's `put`. A piece
 * is lent: `give` is done when the taker asks for the next one, and then the piece's memory is the
 * giver's again. So nothing is queued and nothing copied, and a slow taker slows the giver.
 */
export class HandOver implements AsyncIterable<Uint8Array> {
  #asked: PromiseWithResolvers<IteratorResult<Uint8Array>> | undefined
  #offered: Uint8Array | undefined
  #given: PromiseWithResolvers<void> | undefined
  #hasEnded = false
  #failure: { readonly error: unknown } | undefined

  /** One piece at a time. Rejects if either side has failed. */
  give(piece: Uint8Array): Promise<void> {
    if (this.#failure) return rejected(this.#failure.error)
    this.#given = Promise.withResolvers()
    if (this.#asked) this.#answer({ done: false, value: piece })
    else this.#offered = piece
    return this.#given.promise
  }

  end(): void {
    this.#hasEnded = true
    this.#answer({ done: true, value: undefined })
  }

  /** For either side: the other's promise, pending or next, rejects. */
  fail(error: unknown): void {
    this.#failure ??= { error }
    this.#asked?.reject(error)
    this.#given?.reject(error)
    this.#asked = this.#given = undefined
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return { next: () => this.#next() }
  }

  #next(): Promise<IteratorResult<Uint8Array>> {
    if (this.#failure) return rejected(this.#failure.error)
    const offered = this.#offered
    if (offered !== undefined) {
      this.#offered = undefined
      return Promise.resolve({ done: false, value: offered })
    }
    this.#given?.resolve()
    this.#given = undefined
    if (this.#hasEnded) return Promise.resolve({ done: true, value: undefined })
    this.#asked = Promise.withResolvers()
    return this.#asked.promise
  }

  #answer(result: IteratorResult<Uint8Array>): void {
    this.#asked?.resolve(result)
    this.#asked = undefined
  }
}

function rejected(error: unknown): Promise<never> {
  return Promise.reject(error instanceof Error ? error : new Error(String(error)))
}
