import type { Entry } from './entry.js'

/**
 * Pauses between two tries. Who looks into a root (a backup, a search, a shell) has soon gone. What
 * does not go by itself (a disk with faults, no runtime) is asked ever more rarely, since each try
 * writes a line to the log.
 */
const RETRY = { firstMs: 30_000, longestMs: 3_600_000 }

/**
 * Removes exited `autoRemove` containers that nobody holds: at once if somebody was told of the
 * end, and the foreground reader came where one is expected; else after a while, since who made the
 * container may be on the way to ask for its end or output. One that cannot be removed (`in_use`: a
 * process of the host works in its root) is tried again until it is gone, after 30 s at first and
 * after twice as long each time, up to an hour.
 */
export class AutoRemove {
  readonly #patience = new Map<Entry, NodeJS.Timeout>()
  #closed = false

  constructor(
    private readonly collectMs: number,
    /** Tells of a failure, and does not reject. */
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
    const isTold = entry.collected && (entry.attended || !entry.record.attached)
    this.#removeIn(entry, isTold ? 0 : this.collectMs)
  }

  #removeIn(entry: Entry, ms: number, retryMs = RETRY.firstMs): void {
    if (this.#closed) return
    const go = async (): Promise<void> => {
      this.#patience.delete(entry)
      if (entry.holders > 0) return
      await this.remove(entry)
      if (!entry.removed && !this.#patience.has(entry))
        this.#removeIn(entry, retryMs, Math.min(retryMs * 2, RETRY.longestMs))
    }
    this.#patience.set(
      entry,
      setTimeout(() => void go(), ms),
    )
  }

  close(): void {
    this.#closed = true
    for (const timer of this.#patience.values()) clearTimeout(timer)
  }
}
