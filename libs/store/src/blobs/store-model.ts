import { explore, remembered, type Model, type Verdict } from '@strata/base/testing'

/**
 * A model for store-model.spec.ts of the rule "a blob that someone counts on is never collected"
 * (blobs.ts, leases.ts; the rule of names is in names-model.ts). It is small enough to try every
 * interleaving: one digest, two leases that may succeed or fail, or be ended by an observer while
 * their owner works on or stands still; holds of ended leases pruned at any time; the image
 * removed; collectors of some rounds each; deletions of bytes of ended leases that no record names
 * (`BlobStore.deleteUnused`, and the collector's data without a record). One step here is one
 * request to the store. (Revisions are numbered, not random: what is tried is that all are
 * different, or, with `rev`, that none are.)
 *
 * The `wrong` rules each leave out one thing that looks superfluous. The spec shows that without it
 * the rule breaks:
 * - `order`: the collector lists the live leases before the records;
 * - `rev`: a record's ETag is its content alone, as S3's is, without a fresh number in each write;
 * - `tomb`: tombstones are deleted without a condition;
 * - `lease`: a name is set without a look at whether the lease lives. (Look and name are one step
 *   here: names-model.ts is about that.)
 * - `pending`: the owner writes a record that counts at once, then looks at its lease, and
 *   withdraws the record if the lease has ended;
 * - `maker`: whoever meets a pending record counts on it without a look at its maker's lease;
 * - `look`: the owner makes its pending record count without a look at its lease;
 * - `blind`: it does so without a condition;
 * - `early`: a deletion reads the record before it makes sure that the lease has ended;
 * - `again`: the second lease may have the id of the first, when that has ended and nothing in the
 *   store names it any more. (A run of the first, which others may have taken for dead, still sets
 *   no name: its run is not the one that has the lease.)
 */
export type WrongRule = 'order' | 'rev' | 'tomb' | 'lease' | 'pending' | 'maker' | 'look' | 'blind' | 'early' | 'again'

/** What is tried, beside the two leases. */
export interface Scene {
  readonly collectors: number
  /** Of each collector. */
  readonly rounds: number
  /** Deletions of what no record names, one after the other. */
  readonly deletions: number
  /** In a folder nothing is left of a record that was ended; on S3 a tombstone is. */
  readonly tombstonesStay: boolean
}

/** Sets of leases and of data are bits of a number. A lease has one bit, and its data the same. */
interface Live {
  readonly is: 'live'
  readonly data: number
  readonly holders: number
  /** It does not count yet: see BlobStore. */
  readonly isPending: boolean
  readonly rev: number
}
interface Tombstone {
  readonly is: 'tombstone'
  readonly data: number
  readonly rev: number
}
type Rec = Live | Tombstone | null

/**
 * `own` is the data that the lease's owner wrote, 0 for none: kept over a lost race, deleted when
 * another's is there (BlobStore.commit).
 */
type Writer =
  | { readonly at: 'new' | 'look' | 'drop' | 'held' | 'done' | 'ended' | 'gone'; readonly own: number }
  /** What it saw last. `sure`: pending, and its maker lives. `absent`: to be written over. */
  | { readonly at: 'saw' | 'sure' | 'absent'; readonly own: number; readonly seen: Rec }
  /** What it wrote. `holds`: another's record, with its hold. */
  | { readonly at: 'holds' | 'bytes' | 'wrote' | 'confirm' | 'withdraw'; readonly own: number; readonly seen: Live }

type Collector =
  | { readonly at: 'idle'; readonly rounds: number }
  | { readonly at: 'records'; readonly rounds: number; readonly first: Rec | number }
  | { readonly at: 'references' | 'decide'; readonly rounds: number; readonly listed: Live }
  | { readonly at: 'delete'; readonly rounds: number; readonly data: number }
  | { readonly at: 'tombstone'; readonly rounds: number }

interface Deletion {
  readonly at: 'list' | 'live' | 'record' | 'delete'
  readonly rounds: number
  readonly data: number
}

interface State {
  readonly rec: Rec
  readonly data: number
  readonly live: number
  readonly refs: number
  readonly rev: number
  readonly writers: readonly Writer[]
  readonly collectors: readonly Collector[]
  readonly deletion: Deletion
}

const LEASES = 2

/** Sets of leases as they are, or with one lease in the place of the other. */
type Bits = (set: number) => number
const asIs: Bits = (set) => set
const exchanged: Bits = (set) => ((set & 1) << 1) | (set >> 1)

/** What compare-and-set compares. */
function same(a: Rec, b: Rec): boolean {
  if (a === null || b === null) return a === b
  if (a.is === 'tombstone' || b.is === 'tombstone') return a.is === b.is && a.data === b.data && a.rev === b.rev
  return a.data === b.data && a.rev === b.rev && a.holders === b.holders && a.isPending === b.isPending
}

class Store implements Model<State> {
  readonly first: State
  constructor(
    private readonly scene: Scene,
    private readonly wrong: WrongRule | undefined,
  ) {
    this.first = {
      rec: null,
      data: 0,
      live: 0,
      refs: 0,
      rev: 1,
      writers: Array.from({ length: LEASES }, () => ({ at: 'new', own: 0 })),
      collectors: Array.from({ length: scene.collectors }, () => ({ at: 'idle', rounds: scene.rounds })),
      deletion: { at: 'list', rounds: scene.deletions, data: 0 },
    }
  }

  brokenLaw({ rec, refs, data }: State): string | undefined {
    return refs && !(rec?.is === 'live' && rec.data & data) ? 'lost' : undefined
  }

  *steps(state: State): Generator<State> {
    // No name is there, and none will be.
    if (state.refs === 0 && state.writers.every(({ at }) => at === 'gone' || at === 'ended')) return
    const rev = this.wrong === 'rev' ? state.rev : state.rev + 1
    const { rec } = state
    if (rec?.is === 'live' && rec.holders & ~state.live)
      yield { ...state, rev, rec: { ...rec, holders: rec.holders & state.live, rev } }
    for (let i = 0; i < LEASES; i++) yield* this.#writer(state, i, rev)
    for (let j = 0; j < state.collectors.length; j++) yield* this.#collector(state, j, rev)
    yield* this.#deletion(state)
  }

  *#writer(state: State, i: number, rev: number): Generator<State> {
    const writer = state.writers[i]!
    const bit = this.wrong === 'again' ? 1 : 1 << i
    const { own } = writer
    const isLive = (state.live & bit) !== 0
    const hasRun = isLive && !(this.wrong === 'again' && i === 0 && state.writers[1]!.at !== 'new')
    const to = (next: Writer, change: Partial<State> = {}): State => ({
      ...state,
      ...change,
      writers: state.writers.with(i, next),
    })
    // An observer takes the owner for dead.
    if (isLive) yield { ...state, live: state.live & ~bit }
    switch (writer.at) {
      case 'new':
        if (i === 0 || this.wrong !== 'again' || this.#isForgotten(state))
          yield to({ at: 'look', own }, { live: state.live | bit })
        break
      case 'look':
        yield to({ at: state.rec?.is === 'live' ? 'saw' : 'absent', own, seen: state.rec })
        break
      case 'saw':
      case 'sure': {
        const seen = writer.seen as Live
        if (writer.at === 'saw' && seen.isPending && this.wrong !== 'maker') {
          yield to({ at: state.live & seen.data ? 'sure' : 'absent', own, seen })
          break
        }
        const held: Live = { ...seen, holders: seen.holders | bit, isPending: false, rev }
        yield same(state.rec, seen) ? to({ at: 'holds', own, seen: held }, { rec: held, rev }) : to({ at: 'look', own })
        break
      }
      case 'holds':
        yield to(isLive ? { ...writer, at: 'bytes' } : { at: 'gone', own })
        break
      case 'bytes':
        if (!(state.data & writer.seen.data)) yield to({ at: 'absent', own, seen: writer.seen })
        else if (own === 0 || own === writer.seen.data) yield to({ at: 'held', own: 0 })
        else yield to({ at: 'drop', own })
        break
      case 'drop':
        yield to({ at: 'held', own: 0 }, { data: state.data & ~own })
        break
      case 'absent': {
        const { seen } = writer
        const holders = (seen?.is === 'live' ? seen.holders : 0) | bit
        const rec: Live = { is: 'live', data: own, holders, isPending: this.wrong !== 'pending', rev }
        if (!own) yield to({ ...writer, own: bit }, { data: state.data | bit })
        else if (same(state.rec, seen)) yield to({ at: 'wrote', own, seen: rec }, { rec, rev })
        else yield to({ at: 'look', own })
        break
      }
      case 'wrote':
        if (!isLive && this.wrong !== 'look') yield to({ ...writer, at: 'withdraw' })
        else yield to(writer.seen.isPending ? { ...writer, at: 'confirm' } : { at: 'held', own: 0 })
        break
      case 'confirm':
        yield same(state.rec, writer.seen) || this.wrong === 'blind'
          ? to({ at: 'held', own: 0 }, { rec: { ...writer.seen, isPending: false, rev }, rev })
          : to({ at: 'look', own })
        break
      case 'withdraw':
        yield to({ at: 'gone', own }, same(state.rec, writer.seen) ? { rec: this.#ended(own, rev), rev } : {})
        break
      case 'held':
        if (hasRun || this.wrong === 'lease') yield to({ at: 'done', own }, { refs: state.refs | (1 << i) })
        yield to({ at: 'ended', own }, hasRun ? { live: state.live & ~bit } : {})
        break
      case 'done':
        yield to({ at: 'ended', own }, hasRun ? { live: state.live & ~bit } : {})
        break
      case 'ended':
        if (state.refs & (1 << i)) yield to({ at: 'gone', own }, { refs: state.refs & ~(1 << i) })
        break
      case 'gone':
    }
  }

  /** Whether the first lease has ended, and the store has nothing of it. */
  #isForgotten({ writers, live, data, rec, refs }: State): boolean {
    return writers[0]!.at !== 'new' && live === 0 && data === 0 && rec?.is !== 'live' && refs === 0
  }

  *#collector(state: State, j: number, rev: number): Generator<State> {
    const collector = state.collectors[j]!
    const { rounds } = collector
    const to = (next: Collector, change: Partial<State> = {}): State => ({
      ...state,
      ...change,
      collectors: state.collectors.with(j, next),
    })
    switch (collector.at) {
      case 'idle':
        if (rounds > 0 && state.rec?.is === 'live')
          yield to({ at: 'records', rounds: rounds - 1, first: this.wrong === 'order' ? state.live : state.rec })
        break
      case 'records': {
        const [listed, live] =
          typeof collector.first === 'number' ? [state.rec, collector.first] : [collector.first, state.live]
        // A blob found to be needed is left at once: what would still be read changes nothing.
        yield to(
          listed?.is === 'live' && !(listed.holders & live)
            ? { at: 'references', rounds, listed }
            : { at: 'idle', rounds },
        )
        break
      }
      case 'references':
        yield to(state.refs === 0 ? { ...collector, at: 'decide' } : { at: 'idle', rounds })
        break
      case 'decide': {
        const { data } = collector.listed
        if (same(state.rec, collector.listed))
          yield to({ at: 'delete', rounds, data }, { rec: this.#ended(data, rev), rev })
        else yield to({ at: 'idle', rounds })
        break
      }
      case 'delete':
        yield to(this.wrong === 'tomb' ? { at: 'tombstone', rounds } : { at: 'idle', rounds }, {
          data: state.data & ~collector.data,
        })
        break
      case 'tombstone':
        yield to({ at: 'idle', rounds }, { rec: null })
    }
  }

  *#deletion(state: State): Generator<State> {
    const { deletion } = state
    const { at, rounds } = deletion
    // With nothing left to delete it is over: what it would still read changes nothing.
    const to = (at: Deletion['at'], data: number): State => ({
      ...state,
      deletion: data === 0 ? { at: 'list', rounds, data } : { at, rounds, data },
    })
    if (at === 'list') {
      const first = this.wrong === 'early' ? 'record' : 'live'
      if (rounds > 0 && state.data) yield { ...state, deletion: { at: first, rounds: rounds - 1, data: state.data } }
    } else if (at === 'live') yield to(this.wrong === 'early' ? 'delete' : 'record', deletion.data & ~state.live)
    else if (at === 'record') {
      const named = state.rec?.is === 'live' ? state.rec.data : 0
      yield to(this.wrong === 'early' ? 'live' : 'delete', deletion.data & ~named)
    } else yield { ...to('list', 0), data: state.data & ~deletion.data }
  }

  #ended(data: number, rev: number): Rec {
    return this.scene.tombstonesStay ? { is: 'tombstone', data, rev } : null
  }

  /**
   * The two leases are alike, and so are the collectors, so each are put in an order. A lease has
   * the bit 1 in the keys of its own writer.
   */
  keyOf({ rec, data, live, refs, writers, collectors, deletion }: State): string {
    const others = this.wrong === 'again' ? asIs : exchanged
    const [first, second] = [this.#writerKey(writers[0]!, rec, asIs), this.#writerKey(writers[1]!, rec, others)]
    const inOrder = this.wrong === 'again' || first < second
    const bits = inOrder ? asIs : exchanged
    const writing = inOrder ? `${first} ${second}` : `${second} ${first}`
    const collecting = collectors.map((collector) => this.#collectorKey(collector, rec, bits))
    if (collecting.length > 1) collecting.sort()
    const numbers = `${bits(data)}${bits(live)}${bits(refs)} ${deletion.at}${deletion.rounds}${bits(deletion.data)}`
    return `${this.#recKey(rec, bits)} ${numbers} ${writing} ${collecting.join(' ')}`
  }

  #recKey(rec: Rec, bits: Bits): string {
    if (rec === null) return '-'
    if (rec.is === 'tombstone') return this.wrong === 'rev' ? `T${bits(rec.data)}` : 'T'
    return `${rec.isPending ? 'P' : 'L'}${bits(rec.data)}${bits(rec.holders)}`
  }

  #writerKey(writer: Writer, rec: Rec, bits: Bits): string {
    const { at, own } = writer
    if (!('seen' in writer)) return at === 'look' && own !== 0 ? 'look+' : at
    const { seen } = writer
    // Of what has changed since, only the data is read, and whether it was pending.
    const stale = seen?.is === 'live' ? `!${seen.isPending ? 'P' : 'L'}${bits(seen.data)}` : '!'
    return `${at}${own === 0 ? '' : '+'}${this.#remembered(seen, rec, bits, stale)}`
  }

  #collectorKey(collector: Collector, rec: Rec, bits: Bits): string {
    const { at, rounds } = collector
    switch (at) {
      case 'idle':
      case 'tombstone':
        return `${at}${rounds}`
      case 'delete':
        return `${at}${rounds}${bits(collector.data)}`
      case 'references':
      case 'decide':
        return `${at}${rounds}${this.#remembered(collector.listed, rec, bits, '!')}`
      case 'records': {
        const { first } = collector
        if (typeof first === 'number') return `${at}${rounds}${bits(first)}`
        return `${at}${rounds}${this.#remembered(first, rec, bits, `!${first?.is === 'live' ? bits(first.holders) : ''}`)}`
      }
    }
  }

  /** Where revisions are no fresh numbers, or are not compared, all of a record counts. */
  #remembered(seen: Rec, rec: Rec, bits: Bits, stale: string): string {
    if (this.wrong === 'rev') return this.#recKey(seen, bits)
    return remembered(seen, rec, this.wrong === 'blind' ? `!${this.#recKey(seen, bits)}` : stale)
  }
}

/** Tries every interleaving. `lost`: a name is visible, and its blob has no bytes. */
export function exploreStore(scene: Scene, wrong?: WrongRule): Verdict {
  return explore(new Store(scene, wrong))
}
