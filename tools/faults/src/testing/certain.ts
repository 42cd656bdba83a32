/** What a change made of a thing. Without `is` it is not known. */
export type Outcome<T> = { readonly is: T } | 'as it was' | 'unknown'

/**
 * What is certain of one thing that several clients change at once. While a change is under way
 * nothing is. Of changes that overlap, nobody knows which one came last: what they made of it is
 * certain only if they all agree.
 *
 * ```ts
 * await tag.change(async () => ((await put()).status === 201 ? { is: digest } : 'as it was'))
 * if (tag.value === digest) …
 * ```
 */
export class Certain<T> {
  #value: T | undefined
  #before: T | undefined
  #open = 0
  #outcomes: Outcome<T>[] = []
  #changes = 0

  constructor(first: T) {
    this.#value = first
  }

  /** `undefined`: not known. */
  get value(): T | undefined {
    return this.#value
  }

  /** Is another number as soon as a change has begun. */
  get changes(): number {
    return this.#changes
  }

  /** A change that throws may have been made, and may be made later. */
  async change(work: () => Promise<Outcome<T>>): Promise<Outcome<T>> {
    this.#changes++
    if (this.#open++ === 0) {
      this.#before = this.#value
      this.#outcomes = []
    }
    this.#value = undefined
    let outcome: Outcome<T> = 'unknown'
    try {
      outcome = await work()
      return outcome
    } finally {
      this.#outcomes.push(outcome)
      if (--this.#open === 0) this.#value = this.#agreed()
    }
  }

  #agreed(): T | undefined {
    const made = this.#outcomes.filter((outcome) => outcome !== 'as it was')
    if (made.length === 0) return this.#before
    const values = new Set(made.map((outcome) => (outcome === 'unknown' ? undefined : outcome.is)))
    return values.size === 1 ? values.values().next().value : undefined
  }
}
