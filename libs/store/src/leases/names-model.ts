/**
 * The rule "what was answered stays true" (leases.ts, `Images`), small enough to try every
 * interleaving: one lease that gives one name to image A, and keeps the image O that had the name
 * by its digest. Two runs of its job work at once, each may stop for ever at any step; an observer
 * may end the lease; another load gives the name to image B, and the name may be removed, each
 * once and at any time. One step here is one request to the store.
 *
 * The law: after the lease's client was told that it is done, or that it failed, no run changes a
 * name any more.
 *
 * The `wrong` rules each leave out one thing that looks superfluous:
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

/**
 * `broken`: a state right after a name was changed against the law. `states`: how many were seen.
 */
export interface NamingVerdict {
  readonly states: number
  readonly broken: string | undefined
}

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
}

/** `removes`: the store deletes tombstones. `taken`: image O has the name at the beginning. */
export interface NamingWorld {
  readonly removes: boolean
  readonly taken: boolean
}

interface Step {
  readonly after: State
  /** The step is one of a run or the observer. Other processes may change names at any time. */
  readonly byUpload: boolean
}

class Naming {
  constructor(
    private readonly world: NamingWorld,
    private readonly wrong: WrongNaming | undefined,
  ) {}

  *steps(state: State): Generator<Step> {
    for (const i of [0, 1] as const) for (const after of this.#run(state, i)) yield { after, byUpload: true }
    for (const after of this.#observer(state)) yield { after, byUpload: true }
    for (const after of this.#others(state)) yield { after, byUpload: false }
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

/** Tries every interleaving, breadth first, until one breaks the law or none is left. */
export function exploreNaming(world: NamingWorld, wrong?: WrongNaming): NamingVerdict {
  const naming = new Naming(world, wrong)
  const first: State = {
    tag: world.taken ? { image: 'O', rev: 0 } : null,
    kept: null,
    rev: 1,
    upload: { state: 'committing', run: undefined, about: undefined },
    told: undefined,
    runs: [{ at: 'new' }, { at: 'new' }],
    observer: { at: 'idle' },
    removal: true,
    load: true,
  }
  const seen = new Set([keyOf(first)])
  let frontier = [first]
  while (frontier.length > 0) {
    const next: State[] = []
    for (const state of frontier) {
      for (const { after, byUpload } of naming.steps(state)) {
        const isChanged = state.tag?.image !== after.tag?.image || state.kept?.image !== after.kept?.image
        if (byUpload && isChanged && state.told) return { states: seen.size, broken: JSON.stringify(after) }
        const key = keyOf(after)
        if (seen.has(key)) continue
        seen.add(key)
        next.push(after)
      }
    }
    frontier = next
  }
  return { states: seen.size, broken: undefined }
}

/** Revisions are compared for equality only, so they count by the order in which they are met. */
function keyOf(state: State): string {
  const revs = new Map<number, number>()
  return JSON.stringify({ ...state, rev: undefined }, (name, value: unknown) => {
    if (name !== 'rev' || value === undefined) return value
    if (!revs.has(value as number)) revs.set(value as number, revs.size)
    return revs.get(value as number)
  })
}
