/**
 * The states of a lease. They go forward only.
 *
 *     receiving ─▶ received ─▶ committing ─▶ named ─▶ (no record)
 *
 * - `receiving`: bytes arrive.
 * - `received`: all bytes are in the store.
 * - `committing`: names are being set.
 * - `named`: all names are set, and the result is kept. No run sets a name any more. The request
 *   may have been answered.
 */
export const LEASE_STATES = ['receiving', 'received', 'committing', 'named'] as const
export type LeaseState = (typeof LEASE_STATES)[number]

/** A new kind needs a row in `LEASE_POLICIES`; without it nothing compiles. */
export const LEASE_KINDS = ['load', 'import', 'pull', 'tag', 'push', 'hold', 'unknown'] as const
export type LeaseKind = (typeof LEASE_KINDS)[number]

/**
 * Who keeps a lease alive. lease-model.ts tries every interleaving of each of the three, and of a
 * job that has its lease from the beginning.
 *
 * - `heartbeat`: one process. It writes the record every `HEARTBEAT_MS`. The lease ends when the
 *   record has not changed for some seconds.
 * - `expiry`: no process. Each request that uses the lease renews it. The lease ends when no
 *   request has used it for the time that its kind has (push-times.ts).
 * - `job`: a job in a queue, however long it waits. A job that was lost is queued again. The lease
 *   ends when the job is over, or when the client has been told how its request ended.
 */
export type LeaseKeeper = 'heartbeat' | 'expiry' | 'job'

/** Who keeps a lease of one kind alive, and who waits for it. */
export interface LeasePolicy {
  readonly keptBy: Readonly<Record<LeaseState, LeaseKeeper>>
  /**
   * `request`: when the reaper ends the lease, it also ends the lease's request (`job.id`), whose
   * client waits. `nobody`: there is no such request.
   */
  readonly tells: 'request' | 'nobody'
}

const A_JOB_AFTER_THE_BYTES = { receiving: 'heartbeat', received: 'job', committing: 'job', named: 'job' } as const
const A_JOB = { receiving: 'job', received: 'job', committing: 'job', named: 'job' } as const
const A_PROCESS = {
  receiving: 'heartbeat',
  received: 'heartbeat',
  committing: 'heartbeat',
  named: 'heartbeat',
} as const
const REQUESTS = { receiving: 'expiry', received: 'expiry', committing: 'expiry', named: 'expiry' } as const

/**
 * | kind | its owner |
 * | --- | --- |
 * | `load`, `import` | a gateway while bytes arrive, then the job of that name |
 * | `pull` | the job of that name, from the beginning: it brings the bytes itself |
 * | `tag` | one process that sets names: a tag, a registry's put of a manifest, the storage service's upkeep |
 * | `push` | the requests of a registry's client that uploads a blob, and no process in between |
 * | `hold` | the requests that were answered that a blob is there, until a manifest refers to it |
 * | `unknown` | a kind of a newer version. This version does not know its owner, so it keeps the lease for the longest time |
 */
export const LEASE_POLICIES = {
  load: { keptBy: A_JOB_AFTER_THE_BYTES, tells: 'request' },
  import: { keptBy: A_JOB_AFTER_THE_BYTES, tells: 'request' },
  pull: { keptBy: A_JOB, tells: 'request' },
  tag: { keptBy: A_PROCESS, tells: 'nobody' },
  push: { keptBy: REQUESTS, tells: 'nobody' },
  hold: { keptBy: REQUESTS, tells: 'nobody' },
  unknown: { keptBy: REQUESTS, tells: 'nobody' },
} as const satisfies Readonly<Record<LeaseKind, LeasePolicy>>

/** The kinds whose lease a job keeps in some state. The job, and its request, are of that kind. */
export type JobLeaseKind = {
  [K in LeaseKind]: 'job' extends (typeof LEASE_POLICIES)[K]['keptBy'][LeaseState] ? K : never
}[LeaseKind]

export function isJobLease(kind: LeaseKind): kind is JobLeaseKind {
  const { keptBy }: LeasePolicy = LEASE_POLICIES[kind]
  return Object.values(keptBy).includes('job')
}

/**
 * How a lease ends that is ended in this state, by its own run or by the reaper. A lease that ends
 * as `failed` is ended first, and its client is told afterwards: a request that was told to have
 * failed sets no name later. A lease that ends as `done` is answered first: its result is gone when
 * it has ended.
 */
export const LEASE_ENDS: Readonly<Record<LeaseState, 'failed' | 'done'>> = {
  receiving: 'failed',
  received: 'failed',
  committing: 'failed',
  named: 'done',
}

/**
 * How often an owner writes the lease to show that it lives. By default, observers take an owner
 * for dead after four of these intervals.
 */
export const HEARTBEAT_MS = 2_000
