/**
 * A protocol of ours, made so small that all its states can be visited. A state is an immutable
 * value. One step of a process is one request to the store or the queue. A process may stop for
 * ever at any step: nothing makes it take the next one.
 */
export interface Model<State> {
  readonly first: State
  /** Each state that one step of one process leads to. */
  steps(state: State): Iterable<State>
  /**
   * A short text. Two states may have the same one only if the same laws can be broken from both;
   * of such states one is visited. So it leaves out what no step reads again. It is written by
   * hand: `JSON.stringify` with a replacer takes most of the time of an exploration.
   */
  keyOf(state: State): string
  /** The law that the state breaks. `isOver`: no step leads to another state. */
  brokenLaw(state: State, isOver: boolean): string | undefined
}

export interface Verdict {
  /** How many states were visited. */
  readonly states: number
  /** The first law that was found broken, and the state that breaks it. */
  readonly broken: string | undefined
}

/** Visits every state that any interleaving reaches, until one breaks a law or none is left. */
export function explore<State>(model: Model<State>): Verdict {
  const first = { state: model.first, key: model.keyOf(model.first) }
  const seen = new Set([first.key])
  const left = [first]
  const broken = (state: State, law: string): Verdict => ({
    states: seen.size,
    broken: `${law}: ${JSON.stringify(state)}`,
  })
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    let isOver = true
    for (const state of model.steps(next.state)) {
      const key = model.keyOf(state)
      if (key !== next.key) isOver = false
      if (seen.has(key)) continue
      seen.add(key)
      const law = model.brokenLaw(state, false)
      if (law !== undefined) return broken(state, law)
      left.push({ state, key })
    }
    const law = isOver ? model.brokenLaw(next.state, true) : undefined
    if (law !== undefined) return broken(next.state, law)
  }
  return { states: seen.size, broken: undefined }
}

/**
 * What a process remembers of a record, for `Model.keyOf`: whether the record is still the same,
 * else the text given. Revisions are compared for equality with the record's only, and each write
 * makes a new one. So a revision that is not the record's any more never is again, and which one it
 * was does not matter. Nothing (`null`) has no revision, and may be there again.
 */
export function remembered<Rec extends { readonly rev: number }>(
  seen: Rec | null,
  now: Rec | null,
  stale = '!',
): string {
  if (seen === null) return now === null ? '=' : '-'
  return seen.rev === now?.rev ? '=' : stale
}
