import { explore, type Model, type Verdict } from '@strata/base/testing'

/**
 * A model for manifests-model.spec.ts of the law of `Manifests`. It is small enough to try every
 * interleaving: two writers put one manifest and set a tag to it, each a tag of its own; a client
 * deletes the manifest by its digest; `rmi` takes the first tag away, and the manifest with the
 * last one; a collection takes away the blob that nothing refers to. Each of them may die at any
 * step. One step here is one request to the store.
 *
 * The laws:
 * - when a writer was answered, its tag stands with the manifest's record, or another has taken the
 *   tag away since;
 * - while a record or a tag stands, the manifest's blob is there.
 *
 * The `wrong` rules each leave out one thing that looks superfluous. The spec shows that without it
 * a law breaks:
 * - `renew`: a writer does not renew the record after its tag;
 * - `look`: it looks whether the record is there, and does not renew it;
 * - `again`: it renews the record, and does not begin again if that is gone;
 * - `late`: a delete reads the record after it has looked for tags;
 * - `unchanged`: a delete takes the record away whatever its ETag is;
 * - `rmi`: the same for `rmi`;
 * - `hold`: a writer holds no blob.
 */
export type WrongManifests = 'renew' | 'look' | 'again' | 'late' | 'unchanged' | 'rmi' | 'hold'

/** The record: 0 is none, another number is its ETag. */
type Rec = number

type Writer =
  | { readonly at: 'hold' | 'look' | 'create' | 'tag' | 'answered' | 'over'; readonly tries: number }
  | { readonly at: 'renew'; readonly seen: Rec; readonly tries: number }
  | { readonly at: 'confirm'; readonly tries: number }

/** A delete, or `rmi`. `seen`: the record as it was read. `left`: tags to look at. */
type Taker =
  | { readonly at: 'begin' | 'over' }
  | { readonly at: 'read'; readonly tries: number }
  | { readonly at: 'tags' | 'retire'; readonly seen: Rec; readonly left: readonly number[]; readonly tries: number }

type Collector =
  { readonly at: 'list' | 'over' } | { readonly at: 'leases' | 'references' | 'delete'; readonly blobRev: number }

interface State {
  readonly record: Rec
  readonly tags: readonly [boolean, boolean]
  /** The blob's record: 0 is gone, another number is its ETag. */
  readonly blob: number
  readonly leases: readonly [boolean, boolean]
  readonly holds: readonly [boolean, boolean]
  readonly rev: number
  readonly writers: readonly [Writer, Writer]
  readonly deleter: Taker
  readonly remover: Taker
  readonly collector: Collector
  /** Tags that were taken away since their writer set them. */
  readonly taken: readonly [boolean, boolean]
}

const TRIES = 2

class Putting implements Model<State> {
  readonly first: State = {
    record: 0,
    tags: [false, false],
    blob: 0,
    leases: [true, true],
    holds: [false, false],
    rev: 0,
    writers: [
      { at: 'hold', tries: TRIES },
      { at: 'hold', tries: TRIES },
    ],
    deleter: { at: 'begin' },
    remover: { at: 'begin' },
    collector: { at: 'list' },
    taken: [false, false],
  }
  constructor(private readonly wrong: WrongManifests | undefined) {}

  brokenLaw({ record, tags, blob, writers, deleter, remover, taken }: State): string | undefined {
    if ((record !== 0 || tags.some(Boolean)) && blob === 0) return 'the blob of what stands is gone'
    // A taker that has not ended may still be about to take the tag.
    if (deleter.at !== 'over' && deleter.at !== 'begin') return undefined
    if (remover.at !== 'over' && remover.at !== 'begin') return undefined
    const isLost = writers.some(({ at }, i) => at === 'answered' && !(tags[i] ? record !== 0 : taken[i]))
    return isLost ? 'what was answered does not stand' : undefined
  }

  /**
   * An ETag that is not the one of what is there never is again: which one it was does not matter.
   */
  keyOf({ record, tags, blob, leases, holds, writers, deleter, remover, collector, taken }: State): string {
    const bits = [...tags, ...leases, ...holds, ...taken].reduce((all, bit) => all * 2 + Number(bit), 0)
    const writing = writers.map(
      (writer) => `${writer.at}${writer.tries}${'seen' in writer ? writer.seen === record : ''}`,
    )
    const collecting = 'blobRev' in collector ? `${collector.at}${collector.blobRev === blob}` : collector.at
    return [
      `${record !== 0}${blob !== 0}${bits}`,
      ...writing,
      takerKey(deleter, record),
      takerKey(remover, record),
      collecting,
    ].join(' ')
  }

  *steps(state: State): Generator<State, void, void> {
    for (const i of [0, 1] as const) yield* this.#writer(state, i)
    yield* this.#deleter(state)
    yield* this.#remover(state)
    yield* this.#collector(state)
  }

  *#writer(state: State, i: 0 | 1): Generator<State, void, void> {
    const writer = state.writers[i]
    const { tries } = writer
    const to = (next: Writer, change: Partial<State> = {}): State => ({
      ...state,
      ...change,
      writers: state.writers.with(i, next) as unknown as State['writers'],
    })
    const ended: Partial<State> = { leases: state.leases.with(i, false) as unknown as State['leases'] }
    const again = (): State => (tries > 0 ? to({ at: 'look', tries: tries - 1 }) : to({ at: 'over', tries }, ended))
    switch (writer.at) {
      case 'hold': {
        const rev = state.rev + 1
        const held = { blob: rev, rev, holds: state.holds.with(i, true) as unknown as State['holds'] }
        return yield to({ at: 'look', tries }, this.wrong === 'hold' ? { blob: state.blob || rev, rev } : held)
      }
      case 'look':
        return yield to({ at: state.record === 0 ? 'create' : 'tag', tries })
      case 'create':
        if (state.record !== 0) return yield again()
        return yield to({ at: 'tag', tries }, { record: state.rev + 1, rev: state.rev + 1 })
      case 'tag': {
        const change = {
          tags: state.tags.with(i, true) as unknown as State['tags'],
          taken: state.taken.with(i, false) as unknown as State['taken'],
        }
        if (this.wrong === 'renew') return yield to({ at: 'answered', tries }, { ...change, ...ended })
        return yield to({ at: 'confirm', tries }, change)
      }
      case 'confirm':
        if (state.record === 0 && this.wrong !== 'again') return yield again()
        if (state.record === 0 || this.wrong === 'look') return yield to({ at: 'answered', tries }, ended)
        return yield to({ at: 'renew', seen: state.record, tries })
      case 'renew':
        if (state.record !== writer.seen) return yield to({ at: 'confirm', tries })
        return yield to({ at: 'answered', tries }, { ...ended, record: state.rev + 1, rev: state.rev + 1 })
      case 'answered':
      case 'over':
    }
  }

  *#deleter(state: State): Generator<State, void, void> {
    const { deleter } = state
    const to = (next: Taker, change: Partial<State> = {}): State => ({ ...state, ...change, deleter: next })
    switch (deleter.at) {
      case 'begin':
        if (state.record !== 0) yield to({ at: 'read', tries: TRIES })
        return
      case 'read':
        if (state.record === 0) return yield to({ at: 'over' })
        return yield to({ at: 'tags', seen: state.record, left: [0, 1], tries: deleter.tries })
      case 'tags': {
        const [tag, ...left] = deleter.left
        if (tag === undefined)
          return yield to({
            ...deleter,
            at: 'retire',
            seen: this.wrong === 'late' ? state.record : deleter.seen,
          })
        return yield to({ ...deleter, left }, state.tags[tag] ? this.#untagged(state, tag) : {})
      }
      case 'retire':
        if (state.record === deleter.seen || this.wrong === 'unchanged') return yield to({ at: 'over' }, { record: 0 })
        return yield to(deleter.tries > 0 ? { at: 'read', tries: deleter.tries - 1 } : { at: 'over' })
      case 'over':
    }
  }

  *#remover(state: State): Generator<State, void, void> {
    const { remover } = state
    const to = (next: Taker, change: Partial<State> = {}): State => ({ ...state, ...change, remover: next })
    switch (remover.at) {
      case 'begin':
        if (state.tags[0]) yield to({ at: 'read', tries: TRIES }, this.#untagged(state, 0))
        return
      case 'read':
        if (state.record === 0) return yield to({ at: 'over' })
        return yield to({ at: 'tags', seen: state.record, left: [0, 1], tries: remover.tries })
      case 'tags': {
        const [tag, ...left] = remover.left
        if (tag === undefined) return yield to({ ...remover, at: 'retire' })
        return yield to(state.tags[tag] ? { at: 'over' } : { ...remover, left })
      }
      case 'retire':
        if (state.record === remover.seen || this.wrong === 'rmi') return yield to({ at: 'over' }, { record: 0 })
        return yield to(remover.tries > 0 ? { at: 'read', tries: remover.tries - 1 } : { at: 'over' })
      case 'over':
    }
  }

  *#collector(state: State): Generator<State, void, void> {
    const { collector } = state
    const to = (next: Collector, change: Partial<State> = {}): State => ({ ...state, ...change, collector: next })
    switch (collector.at) {
      case 'list':
        if (state.blob !== 0) yield to({ at: 'leases', blobRev: state.blob })
        return
      case 'leases': {
        const isHeld = state.leases.some((isLive, i) => isLive && state.holds[i])
        return yield to(isHeld ? { at: 'over' } : { ...collector, at: 'references' })
      }
      case 'references': {
        const isReferred = state.record !== 0 || state.tags.some(Boolean)
        return yield to(isReferred ? { at: 'over' } : { ...collector, at: 'delete' })
      }
      case 'delete':
        return yield to({ at: 'over' }, state.blob === collector.blobRev ? { blob: 0 } : {})
      case 'over':
    }
  }

  #untagged(state: State, tag: number): Partial<State> {
    return {
      tags: state.tags.with(tag, false) as unknown as State['tags'],
      taken: state.taken.with(tag, true) as unknown as State['taken'],
    }
  }
}

function takerKey(taker: Taker, record: Rec): string {
  if (!('tries' in taker)) return taker.at
  if (!('seen' in taker)) return `${taker.at}${taker.tries}`
  // No record may be there again.
  const seen = taker.seen === 0 ? 'none' : taker.seen === record
  return `${taker.at}${taker.tries}${taker.left.length}${seen}`
}

/** Tries every interleaving. */
export function exploreManifests(wrong?: WrongManifests): Verdict {
  return explore(new Putting(wrong))
}
