import { explore, type Model, type Verdict } from '@strata/base/testing'

/**
 * A model for lease-model.spec.ts of the rule "a lease lives exactly as long as its owner"
 * (lease-kinds.ts, leases.ts, the reaper of the storage service). It is small enough to try every
 * interleaving: one lease, whose owner is of one of four kinds and may stop for ever or stand
 * still at any step; a reaper that looks at it, ends it and deletes its bytes. One step here is one
 * request to the store or the queue. Collectors beside that are in store-model.ts, two runs that
 * name at once in names-model.ts.
 *
 * Three laws:
 * - *lost*: a name is visible, and its bytes were deleted;
 * - *robbed*: the reaper has ended a lease whose owner kept it as its kind demands;
 * - *stays*: nothing happens any more, and the lease lives, or its bytes are there without a name.
 *
 * The owners:
 * - `heartbeat`: one process, from the beginning to the end. It writes the lease more often than
 *   the reaper looks.
 * - `expires`: requests of a client, with pauses in which no process has the lease. Each request
 *   renews it. A pause may be longer than an owner with heartbeats may be silent. It is shorter
 *   than the time after which the lease expires, unless the client has left.
 * - `job`: a process with heartbeats first, then runs of a job. If a run dies or stands still,
 *   another one follows. Redis may lose the job. The job may be over without having ended the lease
 *   (its worker died, and it is not run again).
 * - `job alone`: the same, but the job has the lease from the beginning: its runs bring the bytes.
 *
 * The `wrong` rules each leave out one thing. The spec shows that without it a law breaks:
 * - `beat`: the owner sends no heartbeats;
 * - `renew`: a request does not renew the lease;
 * - `silence`: a lease without heartbeats is not ended;
 * - `expiry`: a lease that expires is not ended;
 * - `kind`: a lease that expires is ended like one that lacks heartbeats;
 * - `job`: so is a lease that waits for a job;
 * - `queue`: a job that was lost is not queued again;
 * - `over`: a lease whose job is over is not ended;
 * - `unchanged`: the reaper ends a lease also if it changed after the last look;
 * - `owner`: a name is set without a check of which run has the lease;
 * - `order`: the bytes are deleted before the lease is over.
 */
export type WrongLeasing =
  'beat' | 'renew' | 'silence' | 'expiry' | 'kind' | 'job' | 'queue' | 'over' | 'unchanged' | 'owner' | 'order'

/** The owners that the model tries, as above. */
export const LEASE_OWNERS = ['heartbeat', 'expires', 'job', 'job alone'] as const
export type LeaseOwner = (typeof LEASE_OWNERS)[number]

type At = 'none' | 'create' | 'receive' | 'hand over' | 'queue' | 'bring' | 'work' | 'away' | 'name' | 'end' | 'over'
/** A process that works for the owner. */
interface Worker {
  readonly at: At
  readonly health: 'well' | 'stands still' | 'dead'
}

interface State {
  readonly lease: {
    readonly is: 'none' | 'live' | 'ended'
    readonly keptBy: 'heartbeat' | 'expiry' | 'job'
    /** The number of the worker that has it. */
    readonly run: number
  }
  readonly hasBytes: boolean
  readonly isNamed: boolean
  readonly job: 'none' | 'queued' | 'lost' | 'over'
  /** What may still go wrong: workers die or stand still; Redis loses the job. */
  readonly faults: number
  readonly losses: number
  /** The owner's first process, then the runs of its job. */
  readonly workers: readonly Worker[]
  readonly reaper: {
    readonly at: 'watch' | 'end' | 'delete'
    /** How often it has seen the lease as it is, and whether it is still so. */
    readonly looks: number
    readonly isUnchanged: boolean
  }
  readonly isRobbed: boolean
}

/** How many looks without a change end a lease without heartbeats, and one that expires. */
const SILENT = 2
const EXPIRED = 4
const RUNS = [1, 2, 3] as const
const KEPT_FIRST = { heartbeat: 'heartbeat', expires: 'expiry', job: 'heartbeat', 'job alone': 'job' } as const

class Leasing implements Model<State> {
  readonly first: State
  constructor(
    private readonly owner: LeaseOwner,
    private readonly wrong: WrongLeasing | undefined,
  ) {
    const nobody: Worker = { at: 'none', health: 'well' }
    this.first = {
      lease: { is: 'none', keptBy: KEPT_FIRST[owner], run: 0 },
      hasBytes: false,
      isNamed: false,
      job: 'none',
      faults: 2,
      losses: owner === 'job' || owner === 'job alone' ? 1 : 0,
      workers: [{ ...nobody, at: 'create' }, ...RUNS.map(() => nobody)],
      reaper: { at: 'watch', looks: 0, isUnchanged: false },
      isRobbed: false,
    }
  }

  keyOf({ lease, hasBytes, isNamed, job, faults, losses, workers, reaper, isRobbed }: State): string {
    const working = workers.map(({ at, health }) => `${at}.${health}`).join()
    const watching = `${reaper.at}${reaper.looks}${reaper.isUnchanged}`
    return `${lease.is}.${lease.keptBy}.${lease.run} ${hasBytes}${isNamed}${isRobbed} ${job}${faults}${losses} ${working} ${watching}`
  }

  brokenLaw({ lease, hasBytes, isNamed, isRobbed }: State, isOver: boolean): string | undefined {
    if (isNamed && !hasBytes) return 'lost'
    if (isRobbed) return 'robbed'
    return isOver && (lease.is === 'live' || (hasBytes && !isNamed)) ? 'stays' : undefined
  }

  *steps(state: State): Generator<State> {
    for (const [i, worker] of state.workers.entries()) {
      if (worker.at === 'none' || worker.at === 'over' || worker.health === 'dead') continue
      yield* this.#worker(state, i, worker)
      if (state.faults === 0 || worker.health !== 'well') continue
      for (const health of ['dead', 'stands still'] as const)
        yield { ...set(state, i, { health }), faults: state.faults - 1 }
    }
    yield* this.#queue(state)
    yield* this.#reaper(state)
  }

  *#worker(state: State, i: number, { at, health }: Worker): Generator<State> {
    const { lease } = state
    const isOurs = lease.is === 'live' && lease.run === i
    const to = (next: At, from = state): State => set(from, i, { at: next })
    if (isOurs && lease.keptBy === 'heartbeat' && health === 'well' && this.wrong !== 'beat') yield change(state, {})
    switch (at) {
      case 'create':
        yield to(this.owner === 'job alone' ? 'queue' : 'receive', change(state, { is: 'live', run: i }))
        break
      case 'receive':
        yield to(this.owner === 'job' ? 'hand over' : 'work', { ...state, hasBytes: lease.is === 'live' })
        yield to('end')
        break
      case 'hand over':
        yield isOurs ? to('queue', change(state, { keptBy: 'job' })) : to('over')
        break
      case 'queue':
        yield to('over', state.job === 'none' ? { ...state, job: 'queued' } : state)
        break
      case 'bring':
        yield to('work', { ...state, hasBytes: state.hasBytes || lease.is === 'live' })
        yield to('end')
        break
      case 'work':
        yield isOurs ? to(this.owner === 'expires' ? 'away' : 'name') : to('over')
        yield to('end')
        break
      case 'away':
        // The next request takes the lease, and may be followed by more. A client that leaves is a
        // worker that dies.
        if (!isOurs) yield to('over')
        else if (this.wrong === 'renew') yield to('name')
        else {
          yield change(state, {})
          yield to('name', change(state, {}))
        }
        break
      case 'name':
        yield isOurs || this.wrong === 'owner' ? to('end', { ...state, isNamed: true }) : to('over')
        break
      case 'end':
        // Bytes that no name has are deleted with the lease.
        if (isOurs) yield to('over', { ...ended(state), hasBytes: state.isNamed })
        else yield to('over')
        break
      default:
    }
  }

  /** Runs of the job begin, one after the other; Redis loses it; it is not run again. */
  *#queue(state: State): Generator<State> {
    if (state.job !== 'queued') return
    const { lease, workers } = state
    const isUnderWay = RUNS.some((i) => workers[i]!.health === 'well' && !['none', 'over'].includes(workers[i]!.at))
    const next = RUNS.find((i) => workers[i]!.at === 'none')
    if (!isUnderWay) {
      if (lease.is !== 'live') yield { ...state, job: 'over' }
      else if (next !== undefined)
        yield set(change(state, { run: next }), next, { at: this.owner === 'job alone' ? 'bring' : 'work' })
      if (next !== 1) yield { ...state, job: 'over' }
    }
    if (state.losses > 0) yield { ...state, job: 'lost', losses: state.losses - 1 }
  }

  *#reaper(state: State): Generator<State> {
    const { lease, reaper, job } = state
    if (reaper.at === 'delete') {
      const after = { ...state, hasBytes: state.isNamed && state.hasBytes && this.wrong !== 'order' }
      yield { ...after, reaper: { ...reaper, at: this.wrong === 'order' && lease.is === 'live' ? 'end' : 'watch' } }
      return
    }
    if (lease.is !== 'live') return
    if (reaper.at === 'end') {
      if (reaper.isUnchanged || this.wrong === 'unchanged')
        yield {
          ...ended(state),
          isRobbed: this.#isKept(state),
          reaper: { ...reaper, at: this.wrong === 'order' ? 'watch' : 'delete' },
        }
      else yield { ...state, reaper: { at: 'watch', looks: 0, isUnchanged: false } }
      return
    }
    const limit = lease.keptBy === 'expiry' && this.wrong !== 'kind' ? EXPIRED : SILENT
    const looks = reaper.isUnchanged ? Math.min(reaper.looks + 1, limit) : 1
    if (!this.#writesBefore(state, looks)) yield { ...state, reaper: { at: 'watch', looks, isUnchanged: true } }
    if (!reaper.isUnchanged || reaper.looks < limit) return
    if (lease.keptBy === 'job' && this.wrong !== 'job') {
      if ((job === 'none' || job === 'lost') && this.wrong !== 'queue') yield { ...state, job: 'queued' }
      if (job !== 'over' || this.wrong === 'over') return
    }
    if (lease.keptBy === 'heartbeat' && this.wrong === 'silence') return
    if (lease.keptBy === 'expiry' && this.wrong === 'expiry') return
    yield { ...state, reaper: { ...reaper, at: this.wrong === 'order' ? 'delete' : 'end' } }
  }

  /** Whether the owner writes the lease before the reaper has seen it unchanged this often. */
  #writesBefore(state: State, looks: number): boolean {
    if (!this.#isKept(state)) return false
    if (state.lease.keptBy === 'heartbeat') return looks >= SILENT && this.wrong !== 'beat'
    return state.lease.keptBy === 'expiry' && looks >= EXPIRED && this.wrong !== 'renew'
  }

  /** Whether the owner keeps the lease as its kind demands. */
  #isKept({ lease, job, workers }: State): boolean {
    if (lease.keptBy === 'job') return job !== 'over'
    return workers[0]!.health === 'well' && workers[0]!.at !== 'over'
  }
}

function set(state: State, i: number, worker: Partial<Worker>): State {
  return { ...state, workers: state.workers.with(i, { ...state.workers[i]!, ...worker }) }
}

/** Any write of the lease, also one that changes nothing in it. */
function change(state: State, fields: Partial<State['lease']>): State {
  return { ...state, lease: { ...state.lease, ...fields }, reaper: { ...state.reaper, isUnchanged: false } }
}

function ended(state: State): State {
  return { ...state, lease: { ...state.lease, is: 'ended' } }
}

/** Tries every interleaving. */
export function exploreLeasing(owner: LeaseOwner, wrong?: WrongLeasing): Verdict {
  return explore(new Leasing(owner, wrong))
}
