/**
 * Runs works one after another, in the order in which they were given.
 *
 * - A work begins when the one before it has settled, whatever became of that one.
 * - `run` settles as its work does. A failed work changes nothing for the next one.
 * - Nothing bounds the line: whoever adds works bounds how many there can be.
 */
export class Serial {
  #last: Promise<unknown> = Promise.resolve()

  run<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work)
    this.#last = done.catch(() => undefined)
    return done
  }

  /** Resolves when all works that were given so far have settled. */
  async settled(): Promise<void> {
    await this.#last
  }
}

/** The same for each key apart. A key without works takes no memory. */
export class SerialByKey<K> {
  readonly #lines = new Map<K, { readonly serial: Serial; works: number }>()

  async run<T>(key: K, work: () => Promise<T>): Promise<T> {
    const line = this.#lines.get(key) ?? { serial: new Serial(), works: 0 }
    this.#lines.set(key, line)
    line.works++
    try {
      return await line.serial.run(work)
    } finally {
      if (--line.works === 0) this.#lines.delete(key)
    }
  }

  /** Keys that have works. */
  get size(): number {
    return this.#lines.size
  }
}
