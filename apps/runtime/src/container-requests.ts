import { orAborted, StrataError } from '@strata/base'
import { pendingJob, type ContainerExit, type ContainerRecord, type Containers } from '@strata/containers'
import type { Journal } from '@strata/queue'

/**
 * How long Redis may take to answer what somebody waits for. The node's own connection waits until
 * Redis is back, however long it is away.
 */
export const ANSWER_MS = 2_500

/**
 * What Redis knows of the requests about this node's containers: also of a start whose job waits in
 * the queue, of which the node itself knows nothing yet.
 */
export class ContainerRequests {
  constructor(
    private readonly journal: Pick<Journal, 'ofContainer' | 'end' | 'stopWork' | 'fail'>,
    private readonly containers: Pick<Containers, 'get' | 'list' | 'hold' | 'wait' | 'onChange' | 'giveUp'>,
    private readonly answerMs = ANSWER_MS,
  ) {}

  /**
   * The requests of its starts that have not ended.
   * @throws StrataError `queue_unavailable`
   */
  async startsOf(id: string): Promise<Set<string>> {
    const requests = await orAborted(
      this.journal.ofContainer(id),
      AbortSignal.timeout(this.answerMs),
      () => new StrataError('queue_unavailable', 'Redis does not answer; try again in a moment'),
    )
    const starts = new Set(requests.flatMap(({ id, kind }) => (kind === 'start' ? [id] : [])))
    // Earlier releases made records that are not found by their container.
    const record = this.#recordOf(id)
    return record?.idle && record.job !== undefined ? starts.add(record.job) : starts
  }

  /** As `Containers.wait`: also of a start that was asked for before, and waits in the queue. */
  async wait(id: string, gone: AbortSignal): Promise<ContainerExit> {
    return await this.behindStarts(id, gone, () => this.containers.wait(id, gone))
  }

  /**
   * Runs `work` when the starts of an exited container that were asked for before are on its
   * record, or have ended: until then its last start would be taken for the present one. Without
   * Redis, what the node knows counts. Also runs it if `gone` aborts. The container is held from
   * the call on (`Containers.hold`).
   */
  async behindStarts<T>(id: string, gone: AbortSignal, work: () => Promise<T>): Promise<T> {
    const release = this.containers.hold(id)
    try {
      await this.#startsNoted(id, gone)
      return await work()
    } finally {
      release()
    }
  }

  async #startsNoted(id: string, gone: AbortSignal): Promise<void> {
    const { starts } = this.containers.get(id)
    const isNoted = (): boolean => {
      const now = this.#recordOf(id)
      return now?.state.status !== 'exited' || now.idle !== undefined || now.starts > starts
    }
    if (isNoted()) return
    const done = new AbortController()
    const unlisten = this.containers.onChange((changed) => {
      if (changed === id && isNoted()) done.abort()
    })
    const signal = AbortSignal.any([gone, done.signal])
    try {
      // What became of one is told to who asked for it.
      for (const job of await this.#knownStartsOf(id)) await this.journal.end(job, signal).catch(() => undefined)
    } finally {
      unlisten()
    }
  }

  async #knownStartsOf(id: string): Promise<Set<string>> {
    try {
      return await this.startsOf(id)
    } catch (error) {
      if (error instanceof StrataError && error.code === 'queue_unavailable') return new Set()
      throw error
    }
  }

  /**
   * Ends the starts of a container without a process, also those whose jobs wait in the queue: they
   * would come up behind the answer. What starts a process looks last whether its request has ended
   * (`NodeJobs`), so the end that is written here is enough. The jobs are not waited for: one may
   * wait for an extractor that is gone.
   */
  async endStarts(id: string): Promise<void> {
    const why = new StrataError('cancelled', 'its container was stopped')
    for (const job of await this.startsOf(id)) {
      await this.journal.stopWork(job, why)
      await this.journal.fail(job, why)
      await this.containers.giveUp(id, why, job)
    }
  }

  /**
   * The request that creates, launches or starts it, whose process does not run yet, is to stop.
   */
  async stopPending(id: string, why: StrataError): Promise<void> {
    const record = this.#recordOf(id)
    const job = record && pendingJob(record)
    if (job !== undefined) await this.journal.stopWork(job, why)
  }

  /**
   * Ends all requests about a container that is gone. Their jobs find no container, but one of them
   * may wait for an extractor that is gone.
   */
  async endAll(id: string, why: StrataError): Promise<void> {
    for (const request of await this.journal.ofContainer(id)) {
      await this.journal.stopWork(request.id, why)
      await this.journal.fail(request.id, why)
    }
  }

  #recordOf(id: string): ContainerRecord | undefined {
    return this.containers.list().find((one) => one.id === id)
  }
}
