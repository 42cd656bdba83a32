import { failpoint, SingleFlight, StrataError } from '@strata/base'
import { isDigest, type Digest } from '@strata/oci'
import {
  CONTRACTS,
  ENDS,
  QUEUES,
  type JobResult,
  type Journal,
  type JournalRecord,
  type NewJob,
  type NodeDirectory,
  type Producer,
} from '@strata/queue'
import {
  isJobLease,
  LEASE_ENDS,
  LEASE_POLICIES,
  type BlobStore,
  type JobLeaseKind,
  type LeaseKeeper,
  type LeaseKind,
  type Leases,
  type LiveLease,
  type PushTimes,
} from '@strata/store'
import { Silence } from './silence.js'

/**
 * Ends leases that nobody keeps any more, and requests whose gateway died before all of it was with
 * others. A lease is ended by compare-and-set, if its record has not changed for long enough by the
 * *observer's* clock. How long, and what else counts, follows from who keeps it (`LEASE_POLICIES`):
 *
 * | kept by | job in the queue | request's record | what is done |
 * | --- | --- | --- | --- |
 * | a heartbeat | – | – | ended after `silenceMs` |
 * | its expiry | – | – | ended after the time of its kind |
 * | a job | waits or is worked on | – | nothing: its runs finish it |
 * | a job | none (never added, or lost) | not ended, or lost | the record is made again, the job is added |
 * | a job | none | ended, or expired | ended: its client was told, so names are not set any more |
 * | a job | over, and has not ended it | – | ended: its job's failure is what the client was told |
 * | (the record is damaged) | – | – | ended as failed: nobody can go on with it |
 *
 * Ended means: `named` is done, answered with its result; all else has failed (`LEASE_ENDS`). What
 * it brought and no blob has is deleted.
 *
 * A request that has no lease, and no job that could end it, is ended too: its gateway died before
 * it made one or before the journal said that it had ended it, or a storage service before all that
 * it brought was deleted. A launch, a start, a mount or a collection that is said to be waiting and
 * has no job is ended, and the name that was claimed for a container to be launched is free.
 */
export class Reaper {
  readonly #silence: Silence
  /**
   * Requests that are with others, and so stay: most of a day's, which need not be read at every
   * sweep.
   */
  readonly #past = new Set<string>()
  /** The leases of the last sweep. Most have not changed since, and are not read again. */
  #known: ReadonlyMap<string, LiveLease> = new Map()
  readonly #reaping = new SingleFlight<JobResult<'sweep'>>()

  constructor(
    private readonly leases: Leases,
    private readonly blobs: BlobStore,
    private readonly journal: Journal,
    private readonly producer: Producer,
    private readonly nodes: NodeDirectory,
    private readonly limits: ReaperLimits,
  ) {
    this.#silence = new Silence(limits.silenceMs / 2)
  }

  /** One at a time: a call while one is under way gets its result. */
  reap(): Promise<JobResult<'sweep'>> {
    return this.#reaping.run(() => this.#reap())
  }

  async #reap(): Promise<JobResult<'sweep'>> {
    const result: JobResult<'sweep'> = { ended: [], queued: [] }
    const ended: Ended[] = []
    try {
      await this.#look(result, ended)
    } finally {
      await this.#clear(ended)
    }
    return result
  }

  async #look(result: JobResult<'sweep'>, ended: Ended[]): Promise<void> {
    const { silenceMs } = this.limits
    const live = new Set<string>()
    /** Of live leases. */
    const requests = new Set<string>()
    const damaged: Pick<LiveLease, 'id' | 'etag'>[] = []
    const known = new Map<string, LiveLease>()
    const leases = this.leases.listLive({ known: this.#known, onDamaged: (one) => damaged.push(one) })
    for await (const lease of leases) {
      known.set(lease.id, withoutContent(lease))
      live.add(lease.id)
      requests.add(lease.job.id)
      if (this.#silence.look(lease.id, lease.etag) < this.#limitOf(lease)) continue
      const done = await this.#lookAfter(lease, ended)
      if (done) result[done].push(lease.id)
    }
    this.#known = known
    for (const { id, etag } of damaged) {
      live.add(id)
      if (this.#silence.look(id, etag) < silenceMs || !(await this.leases.endUnchanged(id, etag))) continue
      // An older version gave the request the same id. Another request is told in the next sweep.
      const why = new StrataError('corrupt', `the record of the upload ${id} is damaged: send it again`)
      ended.push({ lease: id, told: { request: id, why } })
      result.ended.push(id)
    }
    if (this.#past.size > REMEMBERED) this.#past.clear()
    for (const record of await this.journal.list(NEWEST_JOBS, this.#past)) {
      const { id, kind, state, updatedAt } = record
      const where = QUEUE_OF[kind]
      if (where === undefined ? ENDS.has(state) : state !== 'waiting') this.#past.add(id)
      if (this.#past.has(id) || live.has(id) || requests.has(id)) continue
      live.add(id)
      if (this.#silence.look(id, updatedAt) < silenceMs) continue
      if (where === undefined) await this.#clearWithout(record, live, ended)
      else if (!(await this.#isQueued(record, where))) await this.#giveUp(record)
    }
    this.#silence.keepOnly(live)
  }

  #limitOf(lease: LiveLease): number {
    return keeperOf(lease) === 'expiry' ? this.#expiryOf(lease.job.kind) : this.limits.silenceMs
  }

  #expiryOf(kind: LeaseKind): number {
    const { expiryMs, holdMs } = this.limits
    if (kind === 'push') return expiryMs
    return kind === 'hold' ? holdMs : Math.max(expiryMs, holdMs)
  }

  async #lookAfter(lease: LiveLease, ended: Ended[]): Promise<keyof JobResult<'sweep'> | undefined> {
    const job = keeperOf(lease) === 'job' ? jobOf(lease) : undefined
    if (job && (await this.producer.has(job))) {
      if (!(await this.producer.isOver(job))) return undefined
    } else if (job && !(await this.#isAnswered(job.id))) {
      await this.journal.restore(job.id, job.name)
      await this.producer.add(job)
      return 'queued'
    }
    return (await this.#end(lease, ended)) ? 'ended' : undefined
  }

  /** Whether the request's client was told of an end. */
  async #isAnswered(id: string): Promise<boolean> {
    try {
      return ENDS.has((await this.journal.get(id)).state)
    } catch (error) {
      if (error instanceof StrataError && error.code === 'job_expired') return true
      if (error instanceof StrataError && error.code === 'job_not_found') return false
      throw error
    }
  }

  async #end(lease: LiveLease, ended: Ended[]): Promise<boolean> {
    const { id, etag, state, job } = lease
    const isTold = LEASE_POLICIES[job.kind].tells === 'request' && (await this.#hasRequest(lease))
    // Answered before it is over: nobody would know the result afterwards. A failure is told when
    // it is final.
    if (isTold && LEASE_ENDS[state] === 'done') await this.#answer(lease)
    if (!(await this.leases.endUnchanged(id, etag))) return false
    failpoint('load.abandoned')
    // The record was ended exactly as it was read, so the upload can have become nothing else.
    const told = isTold ? { request: job.id, why: interrupted() } : undefined
    ended.push({ lease: id, told, blobs: blobsOf(lease) })
    return true
  }

  /**
   * `false`: another lease had the request when this one was made, and its gateway died before it
   * ended this one again. The request is the other one's.
   */
  async #hasRequest({ id, job }: LiveLease): Promise<boolean> {
    const owner = await this.leases.idOf(job.id)
    return owner === id || owner === job.id
  }

  /** A result that is damaged must not keep the reaper, now and later, from the others. */
  async #answer(lease: LiveLease): Promise<void> {
    let result: unknown
    try {
      result = await this.leases.resultOf(lease)
    } catch (error) {
      if (!(error instanceof StrataError && error.code === 'corrupt')) throw error
      await this.journal.fail(lease.job.id, error)
      return
    }
    await this.journal.complete(lease.job.id, result)
  }

  async #isQueued({ id, container }: JournalRecord, where: JobPlace): Promise<boolean> {
    if (where !== 'its node') return this.producer.has({ ...where, id })
    const node = container === undefined ? undefined : await this.nodes.placedOn(container)
    return node !== undefined && (await this.producer.has({ queue: QUEUES.runtimeOn(node), id }))
  }

  /** A job that comes late all the same finds that it is to stop. */
  async #giveUp({ id, kind, container }: JournalRecord): Promise<void> {
    const gone = new StrataError(
      'queue_unavailable',
      'the gateway that took the request is gone, and had not queued its job: ask again',
    )
    await this.journal.stopWork(id, gone)
    if (kind === 'launch' && container !== undefined) await this.nodes.releaseNameOf(container)
    await this.journal.fail(id, gone)
  }

  /**
   * A request that is not ended and has no lease: its job ends it, if it has one. A lease of `live`
   * whose record is damaged does not say that it is the request's.
   */
  async #clearWithout({ id, kind, state }: JournalRecord, live: ReadonlySet<string>, ended: Ended[]): Promise<void> {
    const lease = await this.leases.idOf(id)
    if (lease !== id && live.has(lease)) return
    const job = { queue: kind === 'pull' ? QUEUES.pull : QUEUES.ingest, id }
    if (state !== 'receiving' && (await this.producer.has(job)) && !(await this.producer.isOver(job))) return
    ended.push({ lease, told: { request: id, why: interrupted() } })
  }

  /**
   * Deletes what all that this sweep has ended brought. If it is known which blobs a lease can have
   * made, only these are looked at: clients leave uploads all the time. For the others it takes a
   * look at every blob, so it is one look for all of them. The journal last: while it says that a
   * request is receiving, the reaper does this again. One that cannot be cleared must not keep the
   * clients of the others waiting. A store that is away is of no single one, so that ends it.
   */
  async #clear(ended: readonly Ended[]): Promise<void> {
    const failed = new Map<string, unknown>()
    const clear = (those: readonly Ended[], blobs: readonly Digest[] | undefined): Promise<unknown> =>
      this.blobs.deleteUnused(
        those.map(({ lease }) => lease),
        blobs,
        (lease, error) => {
          if (error instanceof StrataError && error.code === 'store_unavailable') throw error
          failed.set(lease, error)
        },
      )
    const known = ended.filter(({ blobs }) => blobs !== undefined)
    const blobs = known.flatMap(({ blobs = [] }) => blobs)
    await clear(known, blobs)
    await clear(
      ended.filter(({ blobs }) => blobs === undefined),
      undefined,
    )
    const failures = [...failed.values()]
    for (const { lease, told } of ended)
      try {
        if (told && !failed.has(lease)) await this.journal.fail(told.request, told.why)
      } catch (error) {
        failures.push(error)
      }
    if (failures.length > 0) throw failures[0]
  }
}

/** A lease that a sweep has ended, or that was over, and what the client of its request is told. */
interface Ended {
  readonly lease: string
  readonly told: { readonly request: string; readonly why: StrataError } | undefined
  /** The only blobs that its bytes can have become. Absent: any. */
  readonly blobs?: readonly Digest[] | undefined
}

export interface ReaperLimits extends PushTimes {
  /** How long a lease that lacks heartbeats, or a job, must have stayed as it is. */
  readonly silenceMs: number
}

/** The queue of a request's job, or that of the node that has the request's container. */
type JobPlace = { readonly queue: string } | 'its node'

/** Where the job of a request is. `undefined`: its lease says what becomes of the request. */
const QUEUE_OF: Readonly<Record<JournalRecord['kind'], JobPlace | undefined>> = {
  load: undefined,
  import: undefined,
  pull: undefined,
  launch: { queue: QUEUES.runtime },
  start: 'its node',
  prepare: { queue: QUEUES.runtime },
  collect: { queue: QUEUES.collect },
}

/** As many as can be receiving at once, by far. */
const NEWEST_JOBS = 1_000
const REMEMBERED = 10 * NEWEST_JOBS

function interrupted(): StrataError {
  return new StrataError('upload_interrupted', 'the gateway that took the upload is gone: send it again')
}

function keeperOf({ job: { kind }, state }: LiveLease): LeaseKeeper {
  return LEASE_POLICIES[kind].keptBy[state]
}

/** Without what only its owner reads: an upload names up to a thousand pieces. */
function withoutContent(lease: LiveLease): LiveLease {
  if (isJobLease(lease.job.kind)) return lease
  const { digest } = lease.request
  return { ...lease, request: digest === undefined ? {} : { digest } }
}

/**
 * The only blobs that a lease's bytes can have become; `undefined`: any. An upload records its
 * digest when it is closed, before it makes the blob. A closed one without a digest was being
 * cancelled: its blob may be there.
 */
function blobsOf({ job, state, request: { digest } }: LiveLease): readonly Digest[] | undefined {
  if (job.kind !== 'push') return undefined
  if (state === 'receiving') return []
  return isDigest(digest) ? [digest] : undefined
}

/** The job that finishes a lease; a lease that no job finishes has none. */
function jobOf({ id, job, request }: LiveLease): NewJob<JobLeaseKind> | undefined {
  if (!isJobLease(job.kind)) return undefined
  if (job.kind === 'pull') return pullOf(job.id, id, request)
  const { prepare, name, platform } = request
  const asked = {
    prepare: prepare === true,
    ...(typeof name === 'string' ? { name } : {}),
    ...(typeof platform === 'string' ? { platform } : {}),
  }
  return { name: job.kind, queue: QUEUES.ingest, id: job.id, data: { root: job.id, upload: id, ...asked } }
}

/** Without credentials: no lease has them. The job says so if it needs them. */
function pullOf(root: string, upload: string, request: LiveLease['request']): NewJob<'pull'> | undefined {
  const { data } = CONTRACTS.pull.data.safeParse({ ...request, root, upload, sealed: undefined })
  return data && { name: 'pull', queue: QUEUES.pull, id: root, data }
}
