import { orAborted } from './or-aborted.js'

/** At most so many works of a process at the same time. The others wait, in their order. */
export class Slots {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(most: number) {
    this.#free = most
  }

  /** @throws the signal's reason, if it aborts while the work waits */
  async run<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    await this.#take(signal)
    try {
      return await work()
    } finally {
      this.#give()
    }
  }

  async #take(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.#free > 0) {
      this.#free--
      return
    }
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const wake = (): void => resolve(undefined)
    this.#waiting.push(wake)
    try {
      await orAborted(promise, signal)
    } catch (error) {
      const at = this.#waiting.indexOf(wake)
      // It was given the slot in the same moment.
      if (at < 0) this.#give()
      else this.#waiting.splice(at, 1)
      throw error
    }
  }

  #give(): void {
    const next = this.#waiting.shift()
    if (next) next()
    else this.#free++
  }
}

/** One work of a key at a time. A key without works takes no memory. */
export class Turns {
  readonly #lines = new Map<string, { readonly slot: Slots; works: number }>()

  /** @throws the signal's reason, if it aborts while the work waits */
  async run<T>(key: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const line = this.#lines.get(key) ?? { slot: new Slots(1), works: 0 }
    this.#lines.set(key, line)
    line.works++
    try {
      return await line.slot.run(signal, work)
    } finally {
      if (--line.works === 0) this.#lines.delete(key)
    }
  }

  /** Keys that have works. */
  get size(): number {
    return this.#lines.size
  }
}
