import { randomUUID } from 'node:crypto'
import { Injectable, Logger } from '@nestjs/common'
import type { JobKind, JobList } from '@strata/api'
import { StrataError, type ToldError } from '@strata/base'
import {
  Journal,
  parseResult,
  Producer,
  type JobName,
  type JobResult,
  type JournalChange,
  type JournalRecord,
  type NewJob,
} from '@strata/queue'
import { Cancellation } from './cancellation.js'

export interface NewRequest {
  readonly id: string
  readonly kind: JobKind
  /** Only of a launch or a start: the id of its container. */
  readonly container?: string
}

/**
 * Requests that become jobs: their record, their first job, their end. Only this part of the
 * gateway makes or ends the record of a request.
 *
 *     begin ─▶ the record ─▶ prepare() ─▶ the job ─▶ result: what the job answered, or its error
 *                                 └─ fails ─▶ the work is stopped, undo(), the record is failed
 *
 * Laws
 * - The record exists before the job, so a process that finds the job can follow the request.
 * - A request whose job was not queued ends as failed, with the error that its caller gets. Its
 *   work is stopped as well: the job may have been queued although Redis did not answer, and it
 *   must not do what the caller was told had failed.
 * - A result is checked by the contract of the job that made it.
 * - `run` and `work` are for requests that only their caller knows. If the caller leaves, they are
 *   cancelled.
 */
@Injectable()
export class Requests {
  readonly #logger = new Logger('requests')

  constructor(
    private readonly journal: Journal,
    private readonly producer: Producer,
    private readonly cancellation: Cancellation,
  ) {}

  /**
   * Resolves when the job is queued.
   *
   * @param prepare makes the job. It is called when the record exists
   * @param undo takes back what `prepare` did. It is called if the job was not queued
   * @throws StrataError `job_exists`, `queue_unavailable`; what `prepare` throws
   */
  async begin<N extends JobName>(
    { id, kind, ...facts }: NewRequest,
    prepare: () => NewJob<N> | Promise<NewJob<N>>,
    undo: () => Promise<void> = () => Promise.resolve(),
  ): Promise<void> {
    await this.journal.create(id, kind, 'waiting', facts)
    try {
      await this.producer.add(await prepare())
      // The one line that has both ids: of the HTTP request and of the job.
      this.#logger.log({ job: id, ...facts }, `${kind} accepted`)
    } catch (error) {
      // Best effort: it may be Redis that does not answer.
      await this.journal.stopWork(id).catch(() => undefined)
      await this.journal.fail(id, error).catch(() => undefined)
      await undo().catch(() => undefined)
      throw error
    }
  }

  /**
   * The result of the request, once it has ended.
   *
   * @param name the job that ends it
   * @param explain gives the error for the caller, if it can say more than the record
   * @throws StrataError why the request failed; `cancelled` if `signal` aborts, and the request
   * goes on then; `job_not_found`, `job_expired`, `queue_unavailable`
   */
  async result<N extends JobName>(
    name: N,
    id: string,
    signal: AbortSignal,
    explain: (error: ToldError) => Promise<ToldError> = (error) => Promise.resolve(error),
  ): Promise<JobResult<N>> {
    const { error, result } = await this.journal.end(id, signal)
    if (error) {
      const { code, message } = await explain(error)
      throw new StrataError(code, message)
    }
    return parseResult(name, result)
  }

  /** `begin`, then `result`; the request is cancelled if `signal` aborts before its end. */
  async run<N extends JobName, E extends JobName>(
    kind: JobKind,
    prepare: (id: string) => NewJob<N>,
    endedBy: E,
    signal: AbortSignal,
  ): Promise<JobResult<E>> {
    const id = randomUUID()
    await this.begin({ id, kind }, () => prepare(id))
    try {
      return await this.result(endedBy, id, signal)
    } catch (error) {
      // Nobody else knows the id, so nobody would use the result.
      if (signal.aborted) await this.cancel(id).catch(() => undefined)
      throw error
    }
  }

  /**
   * Adds a job without a record, and waits for its result. If `signal` aborts before a worker has
   * the job, the job is removed from its queue, unless `stay` is set.
   * @throws StrataError why the job failed; the signal's reason
   */
  async work<N extends JobName>(
    prepare: (id: string) => NewJob<N>,
    signal: AbortSignal,
    { stay = false }: { readonly stay?: boolean } = {},
  ): Promise<JobResult<N>> {
    const job = prepare(randomUUID())
    await this.producer.add(job)
    try {
      return await this.producer.result(job, signal)
    } catch (error) {
      if (signal.aborted && !stay) await this.producer.withdraw(job)
      throw error
    }
  }

  /**
   * Makes the record of a request whose bytes are about to arrive.
   * @throws StrataError `job_exists`
   */
  async receive({ id, kind }: NewRequest, total: number | undefined): Promise<void> {
    await this.journal.create(id, kind, 'receiving', total === undefined ? {} : { total })
  }

  async progress(id: string, change: JournalChange): Promise<void> {
    await this.journal.update(id, change)
  }

  /** Queues the job of a request whose bytes are received. */
  async queue<N extends JobName>(job: NewJob<N>): Promise<void> {
    await this.producer.add(job)
  }

  async fail(id: string, error: unknown): Promise<void> {
    await this.journal.fail(id, error)
  }

  /** Makes the record of a request again that Redis has lost. */
  async restore({ id, kind }: NewRequest): Promise<void> {
    await this.journal.restore(id, kind)
  }

  /** A page of the records, the newest first (`Journal.page`). @throws StrataError `bad_request` */
  async page(limit: number, after: string | undefined): Promise<JobList> {
    return this.journal.page(limit, after)
  }

  /** @throws StrataError `job_not_found`, `job_expired` */
  async get(id: string): Promise<JournalRecord> {
    return this.journal.get(id)
  }

  /** The record as it is, then at each change, until the request has ended or `signal` aborts. */
  follow(id: string, signal: AbortSignal): AsyncGenerator<JournalRecord> {
    return this.journal.follow(id, signal)
  }

  /** @throws StrataError `job_not_found`, `job_expired`, `queue_unavailable` */
  async cancel(id: string): Promise<void> {
    await this.cancellation.cancel(id)
  }
}
