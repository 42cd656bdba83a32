/**
 * For how long things have stayed as they are, by this process' own clock.
 *
 * Time in which nobody looked does not count: while the store or Redis was away, owners could not
 * show that they live. So at most `maxStepMs` count from one look to the next, however long it
 * was. With half of the shortest limit, a thing has to be seen three times at least.
 */
export class Silence {
  readonly #seen = new Map<string, { readonly state: string; at: number; ms: number }>()

  constructor(
    private readonly maxStepMs: number,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Looks once: for how many milliseconds `id` has been in `state`. */
  look(id: string, state: string): number {
    const now = this.now()
    const seen = this.#seen.get(id)
    if (seen?.state !== state) {
      this.#seen.set(id, { state, at: now, ms: 0 })
      return 0
    }
    seen.ms += Math.min(now - seen.at, this.maxStepMs)
    seen.at = now
    return seen.ms
  }

  /** Forgets all but these. */
  keepOnly(ids: ReadonlySet<string>): void {
    for (const id of this.#seen.keys()) if (!ids.has(id)) this.#seen.delete(id)
  }
}
