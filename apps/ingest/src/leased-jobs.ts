import { asStrataError, failpoint, type StrataError } from '@strata/base'
import type { Digest } from '@strata/oci'
import { CONTRACTS, endsRunOnly, type JobContext, type JobResult } from '@strata/queue'
import type { BlobStore, Lease, LeaseRun, Leases } from '@strata/store'

/** What a run has come to when all names are set. */
export interface Made {
  readonly result: JobResult<'load'>
  /** All blobs that the lease's bytes can have become, where this run knows them. */
  readonly digests?: readonly Digest[]
}

/** What a job does in one run. */
interface Work {
  /** Its lease, which this run has taken over. */
  readonly upload: string
  readonly work: (run: LeaseRun, lease: Lease) => Promise<Made>
  /** Whether this run has recorded what the next one need not do again. */
  readonly hasGotOn?: () => boolean
  /** Takes away what is not the lease's own, when the request has been told that it failed. */
  readonly cleanUp?: () => Promise<void>
}

/**
 * Jobs that keep a lease: a load, an import, a pull.
 *
 * Each run takes the lease over (`Leases.begin`); one that was superseded sets no name and ends
 * nothing. When all names are set the lease becomes `named`, with the result, and only then the
 * request is answered. A run that finds it so answers with that result and cleans up: it sets no
 * name, for others may have changed them since.
 *
 * While the store is away a job can neither go on nor be ended, so it is put back, for a minute at
 * most without getting on. If it has failed then, the storage service ends the lease when the store
 * is back, and does not resume it: its client was told.
 */
export class LeasedJobs {
  constructor(
    private readonly blobs: BlobStore,
    private readonly leases: Leases,
  ) {}

  /** One run of the job: what it does depends on the lease's state. */
  async run({ upload, work, hasGotOn, cleanUp }: Work, context: JobContext): Promise<JobResult<'load'>> {
    let run: LeaseRun | undefined
    let made: Made | undefined
    try {
      await context.assertOwned()
      const begun = await this.leases.begin(upload)
      run = begun.run
      made =
        begun.lease.state === 'named'
          ? { result: CONTRACTS.load.result.parse(await this.leases.resultOf(begun.lease)) }
          : await work(run, begun.lease)
      await context.complete(made.result)
      failpoint('load.completed')
      if (!(await this.leases.endBy(run, 'done'))) return made.result
      failpoint('load.upload-ended')
      await this.blobs.deleteUnused(upload, made.digests)
      return made.result
    } catch (error) {
      if (endsRunOnly(error)) throw error
      const failure = asStrataError(error)
      // Named is done: what is left is to answer and to clean up, and the next run does that.
      const isCloser = hasGotOn?.() ?? false
      const own = { ...context, again: (reason: StrataError) => context.again(reason, isCloser) }
      return made ? this.#again(own, failure) : this.#failed(upload, run, own, failure, cleanUp)
    }
  }

  async #again(context: JobContext, failure: StrataError): Promise<never> {
    if (failure.code === 'store_unavailable') await context.progress({ step: 'waiting for the store' })
    return context.again(failure)
  }

  /**
   * The lease ends first, so that it sets no name after its client was told that it failed. What
   * it brought goes last: that no blob has it takes a look at every blob, which nobody waits for.
   */
  async #failed(
    upload: string,
    run: LeaseRun | undefined,
    context: JobContext,
    failure: StrataError,
    cleanUp: Work['cleanUp'],
  ): Promise<never> {
    await context.assertOwned()
    if (failure.code === 'store_unavailable') return this.#again(context, failure)
    let isEnded = true
    try {
      const found = run ? undefined : await this.leases.get(upload)
      if (run) isEnded = await this.leases.endBy(run, 'failed')
      else if (found) isEnded = await this.leases.endUnchanged(upload, found.etag)
    } catch (error) {
      return this.#again(context, asStrataError(error))
    }
    // A run that had lost the job took the lease over before it knew: this one has the job, and
    // begins anew.
    if (!isEnded) return this.#again(context, failure)
    await context.fail(failure)
    await cleanUp?.()
    await this.blobs.deleteUnused(upload)
    throw failure
  }
}
