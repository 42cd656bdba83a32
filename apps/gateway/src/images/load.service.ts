import { randomUUID } from 'node:crypto'
import { Inject, Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common'
import type { LoadResult } from '@strata/api'
import { packedLimits } from '@strata/archive'
import {
  createIntake,
  type Intake,
  type IntakeLimits,
  type IntakeProgress,
  type Received,
  type ReceiveOptions,
} from '@strata/intake'
import { IndexMemory } from '@strata/layers'
import { asCode, asStrataError, Background, failpoint, StrataError } from '@strata/base'
import { parseReference } from '@strata/oci'
import type { ServiceMetrics } from '@strata/platform'
import { QUEUES, Signals } from '@strata/queue'
import {
  BlobStore,
  HEARTBEAT_MS,
  isJobLease,
  keys,
  OBJECT_STORE,
  RECIPE_NAME,
  Leases,
  type ObjectStore,
  type LeaseRun,
} from '@strata/store'
import type { IncomingMessage } from 'node:http'
import { GATEWAY_CONFIG, METRICS, type GatewayConfig } from '../config.js'
import { Requests } from '../jobs/requests.js'
import type { CallersFile } from './callers-file.js'

export interface LoadRequest {
  readonly job: string
  readonly prepare: boolean
  readonly name?: string | undefined
  readonly platform?: string | undefined
  /**
   * Only of an import: what it says of its image (`TreeImage` of `@strata/images`). The body is the
   * layer of that image.
   */
  readonly recipe?: Buffer | undefined
  /** The length of the body in bytes, if the client said it. */
  readonly total?: number | undefined
}

/**
 * The source of an archive: the request's body, or a file that the client has open. `gone` aborts
 * when the client has left.
 */
export type LoadSource = { readonly body: IncomingMessage } | { readonly file: CallersFile; readonly gone: AbortSignal }

/**
 * Receives an archive. At its first byte it makes the request's record and the lease, then it
 * receives the bytes, then it queues the `load` job, which needs only the lease's id.
 *
 * A failure before the job is queued ends the upload here, and nothing of it stays. A gateway that
 * dies leaves a lease that no longer changes: the storage service ends it.
 */
@Injectable()
export class LoadService implements OnApplicationShutdown {
  readonly #logger = new Logger('load')
  readonly #intake: Intake
  readonly #leases: Leases
  readonly #blobs: BlobStore
  readonly #limits: IntakeLimits
  readonly #mostOpen: number
  /**
   * How many archives are being received, by their source. Each source has a limit of its own, so
   * that uploads over HTTP do not keep local uploads out.
   */
  readonly #open = { body: 0, file: 0 }
  /** Deletions of the bytes of failed uploads. Their requests have been answered. */
  readonly #sweeps = new Background()

  constructor(
    @Inject(OBJECT_STORE) private readonly store: ObjectStore,
    private readonly requests: Requests,
    private readonly signals: Signals,
    @Inject(GATEWAY_CONFIG) config: GatewayConfig,
    @Inject(METRICS) metrics: ServiceMetrics,
  ) {
    const open = metrics.gauge('strata_uploads_in_progress')
    metrics.onScrape(() => {
      open.set({ kind: 'stream' }, this.#open.body)
      open.set({ kind: 'file' }, this.#open.file)
    })
    this.#limits = {
      bytes: config.STRATA_MAX_ARCHIVE_BYTES,
      entries: config.STRATA_MAX_ARCHIVE_ENTRIES,
      idleMs: config.STRATA_UPLOAD_IDLE_MS,
      layer: packedLimits(config),
    }
    this.#mostOpen = config.STRATA_MAX_UPLOADS
    this.#intake = createIntake({
      store,
      readers: config.STRATA_READERS,
      memory: IndexMemory.ofProcess(config.STRATA_INDEX_MEMORY),
    })
    this.#leases = new Leases(store)
    this.#blobs = new BlobStore(store)
  }

  /**
   * Resolves when all bytes are received and the job is queued.
   * @throws StrataError `overloaded` if too many are being received; then nothing of this one was
   * recorded
   */
  async receive(source: LoadSource, request: LoadRequest): Promise<void> {
    const from = 'body' in source ? 'body' : 'file'
    if (this.#open[from] >= this.#mostOpen) {
      throw new StrataError(
        'overloaded',
        `${this.#open[from]} uploads are open, as many as this gateway takes at once (STRATA_MAX_UPLOADS): try again when one has ended`,
      )
    }
    this.#open[from]++
    try {
      await this.#receive(source, request)
    } finally {
      this.#open[from]--
    }
  }

  async #receive(source: LoadSource, request: LoadRequest): Promise<void> {
    if (request.name !== undefined) parseReference(request.name)
    const { job, prepare, name, platform, recipe } = request
    const kind = recipe === undefined ? 'load' : 'import'
    const asked = { prepare, ...(name === undefined ? {} : { name }), ...(platform === undefined ? {} : { platform }) }
    await this.requests.receive({ id: job, kind }, request.total)
    failpoint('load.journal-made')
    const cancel = await this.signals.watchCancel(job)
    let run: LeaseRun | undefined
    try {
      run = await this.#leases
        .create(randomUUID(), { job: { kind, id: job }, request: asked })
        .catch((error: unknown) => {
          throw asCode(error, { exists: 'job_exists' })
        })
      failpoint('load.upload-made')
      const received = await this.#takeIn(source, job, run, recipe !== undefined, cancel.controller)
      if (recipe) await this.store.put(keys.data(run.lease, RECIPE_NAME), recipe)
      await this.#leases.update(run, (upload) => ({ ...upload, state: 'received', listing: received.listing }))
      failpoint('load.received')
      await this.requests.progress(job, {
        state: 'waiting',
        step: 'waiting',
        bytes: received.bytes,
        entries: received.entries,
      })
      await this.requests.queue({
        name: kind,
        queue: QUEUES.ingest,
        id: job,
        data: { root: job, upload: run.lease, ...asked },
      })
      this.#logger.log({ job, bytes: received.bytes }, `${kind} accepted`)
      failpoint('load.queued')
    } catch (error) {
      const isOver = run ? await this.#endBadly(job, run, error) : await this.#notBegun(job, error)
      if (isOver) throw error
    } finally {
      cancel.done()
    }
  }

  /**
   * The result of the request, once it has ended. If Redis has lost its data, this makes the
   * request's record again: the lease is in the store, and the storage service queues its job
   * again.
   */
  async result(job: string, signal: AbortSignal): Promise<LoadResult> {
    for (;;) {
      try {
        return await this.requests.result('load', job, signal)
      } catch (error) {
        if (!(error instanceof StrataError && error.code === 'job_not_found')) throw error
        await this.#restore(job)
      }
    }
  }

  async #restore(job: string): Promise<void> {
    const kind = (await this.#leases.ofRequest(job))?.job.kind
    if (kind === undefined || !isJobLease(kind))
      throw new StrataError(
        'queue_unavailable',
        `Redis has lost the job ${job}, which is over: list the images to see whether it made them`,
      )
    await this.requests.restore({ id: job, kind })
  }

  async onApplicationShutdown(): Promise<void> {
    await this.#intake.close()
    await this.#sweeps.settled()
  }

  async #takeIn(
    source: LoadSource,
    job: string,
    run: LeaseRun,
    whole: boolean,
    cancel: AbortController,
  ): Promise<Received> {
    const { lease: upload } = run
    const beat = setInterval(() => {
      this.#leases.touch(run).catch((error: unknown) => {
        // If another process has ended the lease, this upload has no purpose any more. If the store
        // does not answer for a moment, the upload goes on: its bytes wait too.
        const { code } = asStrataError(error)
        if (code === 'upload_interrupted') cancel.abort(error)
      })
    }, HEARTBEAT_MS)
    try {
      const options = {
        upload,
        whole,
        limits: this.#limits,
        signal: cancel.signal,
        // Progress is for people. If Redis does not answer, the upload must go on.
        onProgress: ({ bytes, entries }: IntakeProgress) =>
          void this.requests.progress(job, { bytes, entries }).catch(() => undefined),
        onWaiting: (step = 'receiving') => void this.requests.progress(job, { step }).catch(() => undefined),
      }
      return 'body' in source
        ? await this.#intake.receive(source.body, options)
        : await this.#readIn(source.file, source.gone, options)
    } finally {
      clearInterval(beat)
    }
  }

  async #readIn(
    file: CallersFile,
    gone: AbortSignal,
    options: ReceiveOptions & { readonly signal: AbortSignal },
  ): Promise<Received> {
    const left = AbortSignal.any([options.signal, gone])
    try {
      const received = await this.#intake.receiveFile(file, { ...options, signal: left })
      file.throwIfChanged()
      return received
    } catch (error) {
      if (options.signal.aborted) throw error
      if (gone.aborted)
        throw new StrataError('upload_interrupted', 'the upload was interrupted: its connection was closed', {
          cause: error,
        })
      // A file that is being written to can look broken in any way, so a change of the file is
      // reported first.
      file.throwIfChanged()
      throw error
    }
  }

  /**
   * Ends an upload that failed. Gives `false` if another run has the lease: then that run also ends
   * the request. That may be the run of a job that was queued although Redis did not answer.
   */
  async #endBadly(job: string, run: LeaseRun, error: unknown): Promise<boolean> {
    const isOver = await this.#clean(job, () => this.#leases.endBy(run, 'failed'))
    if (isOver === false) return false
    await this.#clean(job, () => this.requests.fail(job, error))
    // This lists the upload's bytes, and if any are left, all blobs. The client does not wait for
    // that.
    this.#sweeps.run(() => this.#clean(job, () => this.#blobs.deleteUnused(run.lease)))
    return true
  }

  /**
   * Ends a request that wrote nothing. If Redis had forgotten its id, a lease may have the request.
   * Then both the lease and the record belong to another request.
   */
  async #notBegun(job: string, error: unknown): Promise<boolean> {
    await this.#clean(job, async () => {
      if (!(await this.#leases.ofRequest(job))) await this.requests.fail(job, error)
    })
    return true
  }

  async #clean<T>(job: string, work: () => Promise<T>): Promise<T | undefined> {
    return work().catch((failure: unknown) => {
      this.#logger.warn(`ending upload ${job}: ${String(failure)}`)
      return undefined
    })
  }
}
