import type { StrataError, ToldError } from '@strata/base'
import { toldToCaller } from '@strata/base'

/** A caller asks right after its job has failed. */
const KEPT_MS = 10 * 60_000
const MOST = 1_000

/**
 * Why launches on this node failed, in full, for the callers who made them: through Redis only
 * codes travel. In memory, since of a container that was to be removed, or that was refused before
 * it had a record, nothing else is left to tell it.
 */
export class LaunchFailures {
  readonly #failures = new Map<string, { readonly told: ToldError; readonly at: number }>()

  constructor(private readonly now: () => number = Date.now) {}

  note(container: string, error: StrataError): void {
    this.#failures.delete(container)
    this.#failures.set(container, { told: toldToCaller(error), at: this.now() })
    this.#drop()
  }

  /** Another launch of it begins. */
  forget(container: string): void {
    this.#failures.delete(container)
  }

  of(container: string): ToldError | undefined {
    this.#drop()
    return this.#failures.get(container)?.told
  }

  /** The oldest are first. */
  #drop(): void {
    for (const [container, { at }] of this.#failures) {
      if (this.#failures.size <= MOST && this.now() - at < KEPT_MS) return
      this.#failures.delete(container)
    }
  }
}
