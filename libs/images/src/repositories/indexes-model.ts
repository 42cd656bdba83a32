import { explore, type Model, type Verdict } from '@strata/base/testing'

/**
 * A model for indexes-model.spec.ts of the law of `Indexes` that a child which was deleted does not
 * come back. It is small enough to try every interleaving: two clients put an index and set the
 * same tag to it; a third one deletes its child by the digest. Each of them may die at any step.
 * One step here is one request to the store.
 *
 * The laws:
 * - when the delete was answered, the index's record does not have the child;
 * - nor has the tag, unless a writer died between tag and renewal, or is there;
 * - when a writer was answered and nothing was deleted, the record and the tag have the child.
 *
 * The `wrong` rules each leave out one thing that looks superfluous. The spec shows that without it
 * a law breaks:
 * - `name`: a writer does not name the child as a lack before it looks again;
 * - `look`: it does not look again behind that;
 * - `unchanged`: it writes the record whatever its ETag is;
 * - `tag`: it does not compare its tag with the record that it renews;
 * - `renew`: it compares it with the record, and does not renew that;
 * - `touch`: a delete leaves the record as it is if that names the child as a lack.
 */
export type WrongIndexes = 'name' | 'look' | 'unchanged' | 'tag' | 'renew' | 'touch'

/** What the record of the index says of the child. */
type Says = 'lacks' | 'has'
interface Rec {
  readonly rev: number
  readonly says: Says
}

type Writer =
  | { readonly at: 'first' | 'answered' }
  /** `saw`: the child was there at the first look. */
  | { readonly at: 'read' | 'tag' | 'renew'; readonly saw: boolean }
  | { readonly at: 'mark' | 'look'; readonly saw: boolean; readonly seen: Rec | null }
  | { readonly at: 'write'; readonly saw: boolean; readonly seen: Rec | null; readonly wants: Says }
  | { readonly at: 'compare'; readonly saw: boolean; readonly seen: Rec }
  | { readonly at: 'take'; readonly saw: boolean }

type Deleter =
  { readonly at: 'begin' | 'list' | 'read' | 'over' } | { readonly at: 'untag' | 'write'; readonly seen: Rec }

interface State {
  /** The child's own record. */
  readonly child: boolean
  /** The mark by which a delete of the child finds the index. */
  readonly mark: boolean
  readonly record: Rec | null
  /** Whether the tag has the child; `null`: there is no tag. */
  readonly tag: boolean | null
  readonly rev: number
  readonly writers: readonly [Writer, Writer]
  readonly deleter: Deleter
}

class PuttingIndexes implements Model<State> {
  readonly first: State = {
    child: true,
    mark: false,
    record: null,
    tag: null,
    rev: 0,
    writers: [{ at: 'first' }, { at: 'first' }],
    deleter: { at: 'begin' },
  }
  constructor(private readonly wrong: WrongIndexes | undefined) {}

  brokenLaw({ record, tag, writers, deleter }: State): string | undefined {
    const isAnswered = writers.some(({ at }) => at === 'answered')
    if (deleter.at === 'begin') {
      if (isAnswered && !(record?.says === 'has' && tag)) return 'what was answered lacks the child'
      return undefined
    }
    if (deleter.at !== 'over') return undefined
    if (record?.says === 'has') return 'the record has a child that was deleted'
    // One that has written the tag may be about to take the child out of it.
    const isTagging = writers.some(({ at }) => at === 'renew' || at === 'compare' || at === 'take')
    return tag && !isTagging ? 'the tag has a child that was deleted' : undefined
  }

  keyOf({ child, mark, record, tag, writers, deleter }: State): string {
    const seenKey = (seen: Rec | null): string => (seen?.rev === record?.rev ? '=' : `!${seen?.says ?? 'none'}`)
    const writing = writers.map((writer) =>
      [
        writer.at,
        'saw' in writer ? writer.saw : '',
        'seen' in writer ? seenKey(writer.seen) : '',
        'wants' in writer ? writer.wants : '',
      ].join(),
    )
    const deleting = 'seen' in deleter ? `${deleter.at}${seenKey(deleter.seen)}` : deleter.at
    return [child, mark, record?.says, tag, ...writing.sort(), deleting].join(' ')
  }

  *steps(state: State): Generator<State, void, void> {
    for (const i of [0, 1] as const) yield* this.#writer(state, i)
    yield* this.#deleter(state)
  }

  *#writer(state: State, i: 0 | 1): Generator<State, void, void> {
    const writer = state.writers[i]
    const { record, rev } = state
    const to = (next: Writer, change: Partial<State> = {}): State => ({
      ...state,
      ...change,
      writers: state.writers.with(i, next) as unknown as State['writers'],
    })
    switch (writer.at) {
      case 'first':
        return yield to({ at: 'read', saw: state.child })
      case 'read': {
        const { saw } = writer
        if (record?.says === 'has' || (record && !saw)) return yield to({ at: 'tag', saw })
        if (!saw) return yield to({ at: 'mark', saw, seen: record })
        if (this.wrong === 'name') return yield to({ at: 'mark', saw, seen: record })
        return yield to({ at: record?.says === 'lacks' ? 'look' : 'mark', saw, seen: record })
      }
      case 'mark': {
        const wants = writer.saw && this.wrong === 'name' ? 'has' : 'lacks'
        return yield to({ ...writer, at: 'write', wants }, { mark: true })
      }
      case 'look': {
        const isHere = state.child || this.wrong === 'look'
        if (!isHere) return yield to({ at: 'tag', saw: writer.saw })
        return yield to({ ...writer, at: 'write', wants: 'has' })
      }
      case 'write': {
        const { saw, seen, wants } = writer
        if (record?.rev !== seen?.rev && this.wrong !== 'unchanged') return yield to({ at: 'read', saw })
        const next: Writer = wants === 'lacks' && saw ? { at: 'read', saw } : { at: 'tag', saw }
        return yield to(next, { record: { rev: rev + 1, says: wants }, rev: rev + 1 })
      }
      case 'tag': {
        // A tag that has the child keeps it: what two puts say is joined.
        const tag = writer.saw || state.tag === true
        const next: Writer = this.wrong === 'tag' ? { at: 'answered' } : { at: 'renew', saw: writer.saw }
        return yield to(next, { tag })
      }
      case 'renew':
        if (!record) return yield to({ at: 'read', saw: writer.saw })
        return yield to({ at: 'compare', saw: writer.saw, seen: record })
      case 'compare': {
        if (record?.rev !== writer.seen.rev && this.wrong !== 'renew') return yield to({ at: 'renew', saw: writer.saw })
        const isGone = writer.saw && writer.seen.says !== 'has'
        const next: Writer = isGone ? { at: 'take', saw: writer.saw } : { at: 'answered' }
        const renewed = { rev: rev + 1, says: writer.seen.says }
        return yield to(next, this.wrong === 'renew' ? {} : { record: renewed, rev: rev + 1 })
      }
      case 'take':
        return yield to({ at: 'answered' }, { tag: false })
      case 'answered':
    }
  }

  *#deleter(state: State): Generator<State, void, void> {
    const { deleter, record, rev } = state
    const to = (next: Deleter, change: Partial<State> = {}): State => ({ ...state, ...change, deleter: next })
    const without = { record: { rev: rev + 1, says: 'lacks' as const }, rev: rev + 1 }
    switch (deleter.at) {
      case 'begin':
        return yield to({ at: 'list' }, { child: false })
      case 'list':
        return yield to({ at: state.mark ? 'read' : 'over' })
      case 'read':
        if (!record) return yield to({ at: 'over' })
        if (record.says === 'lacks') {
          if (this.wrong === 'touch') return yield to({ at: 'over' })
          return yield to({ at: 'write', seen: record })
        }
        return yield to({ at: 'untag', seen: record })
      case 'untag':
        return yield to({ at: 'write', seen: deleter.seen }, { tag: state.tag && false })
      case 'write': {
        if (record?.rev !== deleter.seen.rev) return yield to({ at: 'read' })
        if (deleter.seen.says === 'lacks') return yield to({ at: 'over' }, without)
        // It looks again until no record has the child.
        return yield to({ at: 'list' }, without)
      }
      case 'over':
    }
  }
}

/** Tries every interleaving. */
export function exploreIndexes(wrong?: WrongIndexes): Verdict {
  return explore(new PuttingIndexes(wrong))
}
