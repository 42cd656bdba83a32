import { step, StrataError } from '@strata/oci'
import { QUEUES, type JobResult, type Journal, type JournalRecord, type NodeDirectory, type Producer } from '@strata/queue'
import type { BlobStore, LiveUpload, Uploads } from '@strata/store'

/**
 * Looks after requests whose gateway died before all of it was with others, and uploads whose owner died (DESIGN's law: by compare-and-set, once the record has not changed for a while by the *observer's* clock).
 *
 * One that was still receiving is ended and what it brought is deleted. One whose bytes are in has a job that finishes it; where there is
 * none (the gateway died before it could add it, or Redis lost it), the job is added; where it has failed and did not end its upload, that is done here. A request that is said to be receiving and has no upload
 * (its gateway died before it made one or before the journal said that it had ended it, or a storage service before all that it brought was deleted) is cleared too.
 * A launch, a mount or a collection that is said to be waiting and has no job is ended, and the name that was claimed for the container is free.
 */
export class RequestKeeper {
  readonly #seen = new Map<string, { state: string; since: number; times: number }>()
  /** Requests that are with others, and so stay: most of a day's, which need not be read at every sweep. */
  readonly #past = new Set<string>()
  #sweeping: Promise<JobResult<'sweep'>> | undefined

  constructor(
    private readonly uploads: Uploads,
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
    for await (const upload of this.uploads.listLive()) {
      live.add(upload.id)
      if (!this.#isSilent(upload.id, upload.etag)) continue
      const { kind } = upload.job
      const job = { name: kind === 'import' ? kind : 'load', queue: QUEUES.ingest, id: upload.id } as const
      if (upload.state === 'receiving' || job.name !== kind) {
        if (await this.#end(upload)) result.ended.push(upload.id)
      } else if (!(await this.producer.has(job))) {
        const { prepare, name, platform } = upload.request
        await this.producer.add({ ...job, data: { root: upload.id, upload: upload.id, prepare: prepare === true, ...(typeof name === 'string' ? { name } : {}), ...(typeof platform === 'string' ? { platform } : {}) } })
        result.queued.push(upload.id)
      } else if (await this.producer.hasFailed(job)) {
        // Poisoned, or the store was away when it was to clean up after itself.
        if (await this.#end(upload)) result.ended.push(upload.id)
      }
    }
    if (this.#past.size > REMEMBERED) this.#past.clear()
    for (const record of await this.journal.list(NEWEST_JOBS, this.#past)) {
      const { id, kind, state, updatedAt } = record
      const queue = QUEUE_OF[kind]
      if (state !== (queue === undefined ? 'receiving' : 'waiting')) this.#past.add(id)
      if (this.#past.has(id) || live.has(id)) continue
      live.add(id)
      if (!this.#isSilent(id, updatedAt)) continue
      if (queue === undefined) await this.#clear(id)
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

  async #end({ id, etag }: LiveUpload): Promise<boolean> {
    if (!(await this.uploads.abandon(id, etag))) return false
    step('load.abandoned')
    await this.#clear(id)
    return true
  }

  /** A job that comes late all the same finds that it is to stop. */
  async #giveUp({ id, container }: JournalRecord): Promise<void> {
    const gone = new StrataError('queue_unavailable', 'the gateway that took the request is gone, and had not queued its job: ask again')
    await this.journal.stopWork(id, gone)
    if (container !== undefined) await this.nodes.releaseNameOf(container)
    await this.journal.fail(id, gone)
  }

  /** The journal last: while it says that the request is receiving, a later sweep does this again. */
  async #clear(id: string): Promise<void> {
    await this.blobs.sweepUpload(id)
    await this.journal.fail(id, interrupted())
  }
}

/**
 * The clock alone is not enough: while store or Redis were away, owners could not say that they live, and nobody looked either. Who has been seen unchanged only before and after that has had no chance.
 */
const LOOKS = 3

/** Where the job of a request is that brings no bytes. */
const QUEUE_OF: Readonly<Partial<Record<JournalRecord['kind'], string>>> = { launch: QUEUES.runtime, prepare: QUEUES.runtime, collect: QUEUES.collect }

/** As many as can be receiving at once, by far. */
const NEWEST_JOBS = 1_000
const REMEMBERED = 10 * NEWEST_JOBS

function interrupted(): StrataError {
  return new StrataError('upload_interrupted', 'the gateway that took the upload is gone: send it again')
}
