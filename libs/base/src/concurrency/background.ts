/**
 * Works that go on behind whoever began them, and that an owner awaits before it ends.
 *
 * - `run` starts the work at once and never fails. A failure of the work is dropped: one that
 *   somebody must know of is reported by the work itself.
 * - Nothing bounds how many go on: whoever adds works bounds that.
 */
export class Background {
  readonly #works = new Set<Promise<void>>()

  run(work: () => Promise<unknown>): void {
    const end = (): void => void this.#works.delete(done)
    const done = Promise.try(work).then(end, end)
    this.#works.add(done)
  }

  /** Resolves when no work goes on, also of those that began meanwhile. */
  async settled(): Promise<void> {
    while (this.#works.size > 0) await Promise.all(this.#works)
  }
}
