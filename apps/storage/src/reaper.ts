import { failpoint, StrataError } from '@strata/base'
import {
  ENDS,
  QUEUES,
  type JobResult,
  type Journal,
  type JournalRecord,
  type NewJob,
  type NodeDirectory,
  type Producer,
} from '@strata/queue'
import { LEASE_ENDS, type BlobStore, type LiveLease, type Leases } from '@strata/store'

/**
 * Looks after requests whose gateway died before all of it was with others, and uploads whose owner
 * died (DESIGN's law: by compare-and-set, once the record has not changed for a while by the
 * *observer's* clock).
 *
 * | upload is | job in the queue | request's record | what is done |
 * | --- | --- | --- | --- |
 * | `receiving`, or has no job | – | – | ended as failed: its owner shows by heartbeats that it lives |
 * | any other | waits or is worked on | – | nothing: its runs finish it |
 * | any other | none (never added, or lost) | not ended, or lost | the record is made again, the job is added |
 * | any other | none | ended, or expired | ended: its client was told, so names are not set any more |
 * | damaged | – | – | ended as failed: nobody can go on with it |
 * | any other | over, and has not ended it | – | ended: its job's failure is what the client was told |
 *
 * Ended means: `named` is done, answered with its result; all else has failed (`LEASE_ENDS`). What
 * it brought and no blob has is deleted.
 *
 * A request that has no upload, and no job that could end it, is ended too: its gateway died before
 * it made one or before the journal said that it had ended it, or a storage service before all that
 * it brought was deleted. A launch, a mount or a collection that is said to be waiting and has no
 * job is ended, and the name that was claimed for the container is free.
 */
export class Reaper {
  readonly #seen = new Map<string, { state: string; since: number; times: number }>()
  /**
   * Requests that are with others, and so stay: most of a day's, which need not be read at every
   * sweep.
   */
  readonly #past = new Set<string>()
  #sweeping: Promise<JobResult<'sweep'>> | undefined

  constructor(
    private readonly leases: Leases,
    private readonly blobs: BlobStore,
    private readonly journal: Journal,
    private readonly producer: Producer,
    private readonly nodes: NodeDirectory,
    private readonly silenceMs: number,
  ) {}

  /** One at a time: who comes while one is under way gets its result. */
  sweep(): Promise<JobResult<'sweep'>> {
    return (this.#sweeping ??= this.#sweep().finally(() => (this.#sweeping = undefined)))
  }

  async #sweep(): Promise<JobResult<'sweep'>> {
    const result: JobResult<'sweep'> = { ended: [], queued: [] }
    const live = new Set<string>()
    const damaged: Pick<LiveLease, 'id' | 'etag'>[] = []
    for await (const upload of this.leases.listLive((one) => damaged.push(one))) {
      live.add(upload.id)
      if (!this.#isSilent(upload.id, upload.etag)) continue
      const done = await this.#lookAfter(upload)
      if (done) result[done].push(upload.id)
    }
    for (const { id, etag } of damaged) {
      live.add(id)
      if (!this.#isSilent(id, etag) || !(await this.leases.endUnchanged(id, etag))) continue
      await this.#clear(id, new StrataError('corrupt', `the record of the upload ${id} is damaged: send it again`))
      result.ended.push(id)
    }
    if (this.#past.size > REMEMBERED) this.#past.clear()
    for (const record of await this.journal.list(NEWEST_JOBS, this.#past)) {
      const { id, kind, state, updatedAt } = record
      const queue = QUEUE_OF[kind]
      if (queue === undefined ? ENDS.has(state) : state !== 'waiting') this.#past.add(id)
      if (this.#past.has(id) || live.has(id)) continue
      live.add(id)
      if (!this.#isSilent(id, updatedAt)) continue
      if (queue === undefined) await this.#clearWithout(record)
      else if (!(await this.producer.has({ queue, id }))) await this.#giveUp(record)
    }
    for (const id of this.#seen.keys()) if (!live.has(id)) this.#seen.delete(id)
    return result
  }

  #isSilent(id: string, state: string): boolean {
    const now = performance.now()
    const seen = this.#seen.get(id)
    if (seen?.state !== state) {
      this.#seen.set(id, { state, since: now, times: 1 })
      return false
    }
    seen.times++
    return seen.times >= LOOKS && now - seen.since >= this.silenceMs
  }

  async #lookAfter(upload: LiveLease): Promise<keyof JobResult<'sweep'> | undefined> {
    const job = jobOf(upload)
    const isWorked = job && LEASE_ENDS[upload.state].keptBy === 'job'
    if (isWorked && (await this.producer.has(job))) {
      if (!(await this.producer.isOver(job))) return undefined
    } else if (isWorked && !(await this.#isAnswered(upload.id))) {
      await this.journal.restore(upload.id, job.name)
      await this.producer.add(job)
      return 'queued'
    }
    return (await this.#end(upload)) ? 'ended' : undefined
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

  async #end(upload: LiveLease): Promise<boolean> {
    const { id, etag, state } = upload
    // Answered before it is over: nobody would know the result afterwards. A failure is told when
    // it is final.
    if (LEASE_ENDS[state].as === 'done') await this.#answer(upload)
    if (!(await this.leases.endUnchanged(id, etag))) return false
    failpoint('load.abandoned')
    await this.#clear(id)
    return true
  }

  /** A result that is damaged must not keep this sweep, and every later one, from the others. */
  async #answer(upload: LiveLease): Promise<void> {
    let result: unknown
    try {
      result = await this.leases.resultOf(upload)
    } catch (error) {
      if (!(error instanceof StrataError && error.code === 'corrupt')) throw error
      await this.journal.fail(upload.id, error)
      return
    }
    await this.journal.complete(upload.id, result)
  }

  /** A job that comes late all the same finds that it is to stop. */
  async #giveUp({ id, container }: JournalRecord): Promise<void> {
    const gone = new StrataError(
      'queue_unavailable',
      'the gateway that took the request is gone, and had not queued its job: ask again',
    )
    await this.journal.stopWork(id, gone)
    if (container !== undefined) await this.nodes.releaseNameOf(container)
    await this.journal.fail(id, gone)
  }

  /** A request that is not ended and has no upload: its job ends it, if it has one. */
  async #clearWithout({ id, state }: JournalRecord): Promise<void> {
    const job = { queue: QUEUES.ingest, id }
    if (state !== 'receiving' && (await this.producer.has(job)) && !(await this.producer.isOver(job))) return
    await this.#clear(id)
  }

  /**
   * The journal last: while it says that the request is receiving, a later sweep does this again.
   */
  async #clear(id: string, why = interrupted()): Promise<void> {
    await this.blobs.deleteUnused(id)
    await this.journal.fail(id, why)
  }
}

/**
 * The clock alone is not enough: while store or Redis were away, owners could not say that they
 * live, and nobody looked either. Who has been seen unchanged only before and after that has had no
 * chance.
 */
const LOOKS = 3

/** Where the job of a request is that brings no bytes. */
const QUEUE_OF: Readonly<Partial<Record<JournalRecord['kind'], string>>> = {
  launch: QUEUES.runtime,
  prepare: QUEUES.runtime,
  collect: QUEUES.collect,
}

/** As many as can be receiving at once, by far. */
const NEWEST_JOBS = 1_000
const REMEMBERED = 10 * NEWEST_JOBS

function interrupted(): StrataError {
  return new StrataError('upload_interrupted', 'the gateway that took the upload is gone: send it again')
}

/** The job that finishes an upload; one that is none of a job's has none. */
function jobOf({
  id,
  job: { kind },
  request: { prepare, name, platform },
}: LiveLease): NewJob<'load' | 'import'> | undefined {
  if (kind !== 'load' && kind !== 'import') return undefined
  const asked = {
    prepare: prepare === true,
    ...(typeof name === 'string' ? { name } : {}),
    ...(typeof platform === 'string' ? { platform } : {}),
  }
  return { name: kind, queue: QUEUES.ingest, id, data: { root: id, upload: id, ...asked } }
}
