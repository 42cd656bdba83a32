/**
 * The rule "a blob that someone counts on is never collected" (blobs.ts, leases.ts; that of names
 * is in names-model.ts), small enough to try every interleaving: one digest, two leases that may
 * succeed or fail, or be ended by an observer while their owner works on; holds of ended leases
 * pruned at any time, the image removed, collectors of two rounds each. One step here is one
 * request to the store. (Revisions are numbered, not random: what is tried is that all are
 * different, or, with `rev`, that none are.)
 *
 * The `wrong` rules each leave out one thing that looks superfluous:
 * - `order`: the collector lists the live leases before the records;
 * - `rev`: a record's ETag is its content alone, as S3's is, without a fresh number in each write;
 * - `tomb`: tombstones are deleted without a condition;
 * - `lease`: a name is set without a look at whether the lease lives. (Look and name are one step
 *   here: names-model.ts is about that.)
 */
export type WrongRule = 'order' | 'rev' | 'tomb' | 'lease'

/**
 * `lost`: a state in which a name is visible and its blob has no bytes. `states`: how many were
 * seen.
 */
export interface Verdict {
  readonly states: number
  readonly lost: string | undefined
}

/** Sets of leases and of data ids are bits of a number. */
interface Live {
  readonly is: 'live'
  readonly data: number
  readonly holders: number
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
  | { readonly at: 'new' | 'look' | 'held' | 'done' | 'ended' | 'gone'; readonly own: number }
  | { readonly at: 'saw'; readonly own: number; readonly seen: Rec }
  | { readonly at: 'drop'; readonly own: number }

type Collector =
  | { readonly at: 'idle'; readonly rounds: number }
  | { readonly at: 'records'; readonly rounds: number; readonly first: Rec | number }
  | { readonly at: 'references' | 'decide'; readonly rounds: number; readonly listed: Live }
  | { readonly at: 'delete'; readonly rounds: number; readonly data: number }
  | { readonly at: 'tombstone'; readonly rounds: number }

interface State {
  readonly rec: Rec
  readonly data: number
  readonly live: number
  readonly refs: number
  readonly rev: number
  readonly nextId: number
  readonly writers: readonly Writer[]
  readonly collectors: readonly Collector[]
}

const LEASES = 2
const ROUNDS = 2

/** What compare-and-set compares. */
function same(a: Rec, b: Rec): boolean {
  if (a === null || b === null) return a === b
  return a.is === b.is && a.data === b.data && a.rev === b.rev && (a.is !== 'live' || a.holders === (b as Live).holders)
}

function* steps(state: State, wrong: WrongRule | undefined): Generator<State> {
  const rev = wrong === 'rev' ? state.rev : state.rev + 1
  const { rec } = state
  if (rec?.is === 'live' && rec.holders & ~state.live)
    yield { ...state, rev, rec: { ...rec, holders: rec.holders & state.live, rev } }
  for (let i = 0; i < LEASES; i++) yield* writerSteps(state, i, rev, wrong)
  for (let j = 0; j < state.collectors.length; j++) yield* collectorSteps(state, j, rev, wrong)
}

function* writerSteps(state: State, i: number, rev: number, wrong: WrongRule | undefined): Generator<State> {
  const writer = state.writers[i]!
  const bit = 1 << i
  const { own } = writer
  const to = (next: Writer, change: Partial<State> = {}): State => ({
    ...state,
    ...change,
    writers: state.writers.with(i, next),
  })
  // An observer takes the owner for dead.
  if (state.live & bit) yield { ...state, live: state.live & ~bit }
  switch (writer.at) {
    case 'new':
      yield to({ at: 'look', own }, { live: state.live | bit })
      break
    case 'look':
      yield to({ at: 'saw', own, seen: state.rec })
      break
    case 'saw':
      if (writer.seen?.is === 'live') {
        const held: Rec = { ...writer.seen, holders: writer.seen.holders | bit, rev }
        yield same(state.rec, writer.seen)
          ? to({ at: own ? 'drop' : 'held', own }, { rec: held, rev })
          : to({ at: 'look', own })
      } else if (!own) {
        const id = state.nextId
        yield to({ ...writer, own: id }, { data: state.data | id, nextId: id << 1 })
      } else if (same(state.rec, writer.seen)) {
        yield to({ at: 'held', own: 0 }, { rec: { is: 'live', data: own, holders: bit, rev }, rev })
      } else yield to({ at: 'look', own })
      break
    case 'drop':
      yield to({ at: 'held', own: 0 }, { data: state.data & ~own })
      break
    case 'held':
      if (state.live & bit || wrong === 'lease') yield to({ at: 'done', own }, { refs: state.refs | bit })
      yield to({ at: 'ended', own }, { live: state.live & ~bit })
      break
    case 'done':
      yield to({ at: 'ended', own }, { live: state.live & ~bit })
      break
    case 'ended':
      if (state.refs & bit) yield to({ at: 'gone', own }, { refs: state.refs & ~bit })
      break
    case 'gone':
  }
}

function* collectorSteps(state: State, j: number, rev: number, wrong: WrongRule | undefined): Generator<State> {
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
        yield to({ at: 'records', rounds: rounds - 1, first: wrong === 'order' ? state.live : state.rec })
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
        yield to({ at: 'delete', rounds, data }, { rec: { is: 'tombstone', data, rev }, rev })
      else yield to({ at: 'idle', rounds })
      break
    }
    case 'delete':
      yield to(wrong === 'tomb' ? { at: 'tombstone', rounds } : { at: 'idle', rounds }, {
        data: state.data & ~collector.data,
      })
      break
    case 'tombstone':
      yield to({ at: 'idle', rounds }, { rec: null })
  }
}

/** Tries every interleaving, breadth first, until one loses a blob or none is left. */
export function explore(collectors: number, wrong?: WrongRule): Verdict {
  const first: State = {
    rec: null,
    data: 0,
    live: 0,
    refs: 0,
    rev: 1,
    nextId: 1,
    writers: Array.from({ length: LEASES }, () => ({ at: 'new', own: 0 })),
    collectors: Array.from({ length: collectors }, () => ({ at: 'idle', rounds: ROUNDS })),
  }
  const seen = new Set([keyOf(first)])
  let frontier = [first]
  while (frontier.length > 0) {
    const next: State[] = []
    for (const state of frontier) {
      const { rec, refs, data } = state
      if (refs && !(rec?.is === 'live' && rec.data & data)) return { states: seen.size, lost: JSON.stringify(state) }
      for (const after of steps(state, wrong)) {
        const key = keyOf(after)
        if (seen.has(key)) continue
        seen.add(key)
        next.push(after)
      }
    }
    frontier = next
  }
  return { states: seen.size, lost: undefined }
}

/**
 * Text that is the same for states that behave alike. Revisions are compared for equality only, so
 * they count by the order in which they are met; collectors are all alike, so their order does not
 * count.
 */
function keyOf({ rec, data, live, refs, nextId, writers, collectors }: State): string {
  const revs = new Map<number, number>()
  const recKey = (record: Rec | number | undefined): string => {
    if (record === null || record === undefined || typeof record === 'number') return `${record ?? '-'}`
    let rev = revs.get(record.rev)
    if (rev === undefined) revs.set(record.rev, (rev = revs.size))
    return `${record.is === 'live' ? `L${record.holders}` : 'T'}.${record.data}.${rev}`
  }
  const head = `${recKey(rec)} ${data} ${live} ${refs} ${nextId}`
  const writing = writers.map((writer) => `${writer.at}${writer.own}${writer.at === 'saw' ? recKey(writer.seen) : ''}`)
  const collecting = collectors
    .map((collector) => ({
      collector,
      plain: Object.values(collector)
        .filter((value) => typeof value !== 'object')
        .join(),
    }))
    .sort((a, b) => (a.plain < b.plain ? -1 : 1))
    .map(
      ({ collector, plain }) =>
        `${plain}${'listed' in collector ? recKey(collector.listed) : collector.at === 'records' ? recKey(collector.first) : ''}`,
    )
  return `${head} ${writing.join(' ')} ${collecting.join(' ')}`
}
