import { explore, remembered, type Model, type Verdict } from '@strata/base/testing'

/**
 * A model for names-model.spec.ts of the rule "what was answered stays true" (leases.ts, `Images`).
 * It is small enough to try every interleaving: one lease that gives one name to image A, and keeps
 * the image O that had the name by its digest. Two runs of its job work at once, each may stop for
 * ever at any step; an observer may end the lease; another load gives the name to image B, and the
 * name may be removed, each once and at any time. One step here is one request to the store.
 *
 * The law: after the lease's client was told that it is done, or that it failed, no run changes a
 * name any more.
 *
 * The `wrong` rules each leave out one thing that looks superfluous. The spec shows that without it
 * the law breaks:
 * - `named`: a run that begins does not check whether another has set the names (a job that runs
 *   again after its answer);
 * - `told`: the client is told of a failure before the lease is over (the store was away, say), and
 *   the next run goes on with the lease;
 * - `owner`: before a name is written, the run checks only that the lease lives and commits, not
 *   that it still has the lease;
 * - `announce`: the run checks that it has the lease, but does not announce what it writes next, so
 *   no successor can make that fail;
 * - `renew`: a successor does not make fail what was announced;
 * - `forget`: a successor deletes the announcement before it has made that fail;
 * - `mark`: no tombstone is put where a name is absent, on a store that deletes tombstones.
 */
export type WrongNaming = 'named' | 'told' | 'owner' | 'announce' | 'renew' | 'forget' | 'mark'

type Image = 'A' | 'B' | 'O'
/** `image` undefined: a tombstone. `null`: nothing is there. */
type Rec = { readonly image: Image | undefined; readonly rev: number } | null
type Key = 'tag' | 'kept'
/** The runs are 0 and 1, the observer is 2. At the start none of them has the lease. */
type Owner = 0 | 1 | 2 | undefined

interface Upload {
  readonly state: 'committing' | 'named' | 'gone'
  readonly run: Owner
  readonly about: Key | undefined
}

type Run =
  | { readonly at: 'new' | 'tag' | 'named' | 'tell' | 'end' | 'fail' | 'telling' | 'over' }
  /** `found`: the lease as this run took it over. */
  | { readonly at: 'renew'; readonly found: Upload }
  | {
      readonly at: 'kept' | 'announce kept' | 'write kept' | 'announce tag' | 'write tag'
      readonly tag: Rec
      readonly kept?: Rec
    }

type Observer = { readonly at: 'idle' | 'over' } | { readonly at: 'renew' | 'retire' | 'tell'; readonly found: Upload }

interface State {
  readonly tag: Rec
  readonly kept: Rec
  readonly rev: number
  readonly upload: Upload
  readonly told: 'done' | 'failed' | undefined
  readonly runs: readonly [Run, Run]
  readonly observer: Observer
  /** Whether these may still happen, from outside. */
  readonly removal: boolean
  readonly load: boolean
  /** A run or the observer has just changed a name after the client was told. */
  readonly isBroken: boolean
}

/** `removes`: the store deletes tombstones. `taken`: image O has the name at the beginning. */
export interface NamingWorld {
  readonly removes: boolean
  readonly taken: boolean
}

/** At these steps a run changes no name any more. */
const AFTER_NAMING: ReadonlySet<Run['at']> = new Set(['tell', 'end', 'fail', 'telling', 'over'])

class Naming implements Model<State> {
  readonly first: State
  constructor(
    private readonly world: NamingWorld,
    private readonly wrong: WrongNaming | undefined,
  ) {
    this.first = {
      tag: world.taken ? { image: 'O', rev: 0 } : null,
      kept: null,
      rev: 1,
      upload: { state: 'committing', run: undefined, about: undefined },
      told: undefined,
      runs: [{ at: 'new' }, { at: 'new' }],
      observer: { at: 'idle' },
      removal: true,
      load: true,
      isBroken: false,
    }
  }

  brokenLaw({ isBroken }: State): string | undefined {
    return isBroken ? 'a name was changed after the answer' : undefined
  }

  /** The two runs are alike: they are put in an order. */
  keyOf({ tag, kept, upload, told, runs, observer, removal, load, isBroken }: State): string {
    const [first, second] = [runKey(runs[0], tag, kept), runKey(runs[1], tag, kept)]
    const isInOrder = first <= second
    const owner = upload.run === 0 || upload.run === 1 ? Number((upload.run === 0) === isInOrder) : (upload.run ?? '-')
    const watching = 'found' in observer ? `${observer.at}${foundKey(observer.found)}` : observer.at
    return [
      isInOrder ? `${first} ${second}` : `${second} ${first}`,
      `${recKey(tag)}${recKey(kept)}`,
      `${upload.state}${owner}${upload.about}`,
      `${told !== undefined}${removal}${load}${isBroken}`,
      watching,
    ].join(' ')
  }

  *steps(state: State): Generator<State> {
    if (state.runs.every(({ at }) => AFTER_NAMING.has(at))) return
    for (const i of [0, 1] as const) for (const after of this.#run(state, i)) yield this.#judged(state, after)
    for (const after of this.#observer(state)) yield this.#judged(state, after)
    // Other processes may change names at any time.
    yield* this.#others(state)
  }

  #judged(state: State, after: State): State {
    if (state.told === undefined) return after
    const isChanged = state.tag?.image !== after.tag?.image || state.kept?.image !== after.kept?.image
    return isChanged ? { ...after, isBroken: true } : after
  }

  *#run(state: State, i: 0 | 1): Generator<State> {
    const { upload, wrong } = { upload: state.upload, wrong: this.wrong }
    const run = state.runs[i]
    const to = (next: Run, change: Partial<State> = {}): State => ({
      ...state,
      ...change,
      runs: state.runs.with(i, next) as unknown as State['runs'],
    })
    const over: Run = { at: 'over' }
    const isOurs = upload.state !== 'gone' && (upload.run === i || (wrong === 'owner' && upload.state === 'committing'))
    // Anything may go wrong while names are set, and then the lease is ended.
    if (['tag', 'kept', 'announce kept', 'write kept', 'announce tag', 'write tag'].includes(run.at))
      yield to({ at: wrong === 'told' ? 'telling' : 'fail' })
    switch (run.at) {
      case 'new':
        if (upload.state === 'gone') yield to(over)
        else
          yield to(
            { at: 'renew', found: upload },
            { upload: { ...upload, run: i, ...(wrong === 'forget' ? { about: undefined } : {}) } },
          )
        break
      case 'renew':
        yield to(
          { at: run.found.state === 'named' && wrong !== 'named' ? 'tell' : 'tag' },
          this.#renewed(state, run.found.about),
        )
        break
      case 'tag':
        if (state.tag === null && this.#marks)
          yield to(run, { tag: { image: undefined, rev: state.rev }, rev: state.rev + 1 })
        else if (state.tag?.image === 'A') yield to({ at: 'named' })
        else yield to({ at: state.tag?.image === undefined ? 'announce tag' : 'kept', tag: state.tag })
        break
      case 'kept':
        // Only O is followed: what another load has put there is kept by the same steps.
        if (run.tag?.image !== 'O') yield to({ ...run, at: 'announce tag' })
        else if (state.kept === null && this.#marks)
          yield to(run, { kept: { image: undefined, rev: state.rev }, rev: state.rev + 1 })
        else
          yield to({ ...run, at: state.kept?.image === undefined ? 'announce kept' : 'announce tag', kept: state.kept })
        break
      case 'announce kept':
      case 'announce tag': {
        const key = run.at === 'announce tag' ? 'tag' : 'kept'
        if (isOurs)
          yield to(
            { ...run, at: `write ${key}` },
            wrong === 'announce' || wrong === 'owner' ? {} : { upload: { ...upload, about: key } },
          )
        else yield to(over)
        break
      }
      case 'write kept':
        yield same(state.kept, run.kept ?? null)
          ? to({ ...run, at: 'announce tag' }, { kept: { image: 'O', rev: state.rev }, rev: state.rev + 1 })
          : to({ ...run, at: 'announce tag' })
        break
      case 'write tag':
        yield same(state.tag, run.tag)
          ? to({ at: 'named' }, { tag: { image: 'A', rev: state.rev }, rev: state.rev + 1 })
          : to({ at: 'tag' })
        break
      case 'named':
        yield isOurs ? to({ at: 'tell' }, { upload: { ...upload, state: 'named' } }) : to(over)
        break
      case 'tell':
        yield to({ at: 'end' }, { told: state.told ?? 'done' })
        break
      case 'end':
        yield to(over, upload.run === i ? { upload: { ...upload, state: 'gone' } } : {})
        break
      case 'fail':
        yield upload.run === i && upload.state !== 'gone'
          ? to({ at: 'telling' }, { upload: { ...upload, state: 'gone' } })
          : to(over)
        break
      case 'telling':
        yield to(over, { told: state.told ?? 'failed' })
        break
      case 'over':
    }
  }

  *#observer(state: State): Generator<State> {
    const { upload, observer } = state
    const to = (next: Observer, change: Partial<State> = {}): State => ({ ...state, ...change, observer: next })
    switch (observer.at) {
      case 'idle':
        if (upload.state !== 'gone')
          yield to(
            { at: 'renew', found: upload },
            { upload: { ...upload, run: 2, ...(this.wrong === 'forget' ? { about: undefined } : {}) } },
          )
        break
      case 'renew':
        yield to({ ...observer, at: 'retire' }, this.#renewed(state, observer.found.about))
        break
      case 'retire':
        // By compare-and-set: the lease is as it was taken over, or another run has it.
        if (upload.run === 2 && upload.state === observer.found.state)
          yield to({ ...observer, at: 'tell' }, { upload: { ...upload, state: 'gone' } })
        else yield to({ at: 'idle' })
        break
      case 'tell':
        yield to({ at: 'over' }, { told: state.told ?? (observer.found.state === 'named' ? 'done' : 'failed') })
        break
      case 'over':
    }
  }

  *#others(state: State): Generator<State> {
    const { rev, tag, kept } = state
    if (state.load)
      yield {
        ...state,
        load: false,
        rev: rev + 2,
        tag: { image: 'B', rev },
        kept: tag?.image === 'O' ? { image: 'O', rev: rev + 1 } : kept,
      }
    if (state.removal && tag?.image !== undefined) {
      const gone = (at: number): Rec => (this.world.removes ? null : { image: undefined, rev: at })
      yield {
        ...state,
        removal: false,
        rev: rev + 2,
        tag: gone(rev),
        kept: kept?.image === undefined ? kept : gone(rev + 1),
      }
    }
  }

  get #marks(): boolean {
    return this.world.removes && this.wrong !== 'mark'
  }

  #renewed(state: State, about: Key | undefined): Partial<State> {
    if (about === undefined || this.wrong === 'renew') return {}
    return { [about]: { image: state[about]?.image, rev: state.rev }, rev: state.rev + 1 }
  }
}

/** What compare-and-set compares. */
function same(a: Rec, b: Rec): boolean {
  return a === null || b === null ? a === b : a.rev === b.rev
}

function recKey(rec: Rec): string {
  return rec === null ? '-' : (rec.image ?? 'T')
}

function foundKey({ state, about }: Upload): string {
  return `${state}${about}`
}

function runKey(run: Run, tag: Rec, kept: Rec): string {
  if ('found' in run) return `${run.at}${foundKey(run.found)}`
  if (!('tag' in run)) return run.at
  // The image is read again only before the other key is looked at.
  const seen = remembered(run.tag, tag, run.at === 'kept' ? `!${recKey(run.tag)}` : '!')
  const isKeptRead = run.at === 'announce kept' || run.at === 'write kept'
  return `${run.at}${seen}${isKeptRead ? remembered(run.kept ?? null, kept) : ''}`
}

/** Tries every interleaving. */
export function exploreNaming(world: NamingWorld, wrong?: WrongNaming): Verdict {
  return explore(new Naming(world, wrong))
}
