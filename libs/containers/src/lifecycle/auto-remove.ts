import type { Entry } from './entry.js'

/**
 * Removes exited `autoRemove` containers that nobody holds: at once if somebody was told of the
 * end, and the foreground reader came where one is expected; else after a while, since who made the
 * container may be on the way to ask for its end or output.
 */
export class AutoRemove {
  readonly #patience = new Map<Entry, NodeJS.Timeout>()
  #closed = false

  constructor(
    private readonly collectMs: number,
    private readonly remove: (entry: Entry) => Promise<void>,
  ) {}

  /** An open `wait` or `logs`. Answers how to end it. */
  hold(entry: Entry): () => void {
    entry.holders++
    return () => {
      entry.holders--
      this.consider(entry)
    }
  }

  /** To be called when a container has exited. */
  consider(entry: Entry): void {
    clearTimeout(this.#patience.get(entry))
    this.#patience.delete(entry)
    if (
      !entry.record.autoRemove ||
      entry.state.status !== 'exited' ||
      entry.removed ||
      entry.holders > 0 ||
      this.#closed
    )
      return
    const go = (): void => {
      this.#patience.delete(entry)
      if (entry.holders === 0 && !this.#closed) void this.remove(entry)
    }
    const isTold = entry.collected && (entry.attended || !entry.record.attached)
    this.#patience.set(entry, setTimeout(go, isTold ? 0 : this.collectMs))
  }

  close(): void {
    this.#closed = true
    for (const timer of this.#patience.values()) clearTimeout(timer)
  }
}
