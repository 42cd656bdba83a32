import { Inject, Injectable } from '@nestjs/common'
import { Journal } from '@strata/queue'
import { LEASE_POLICIES, OBJECT_STORE, Leases, type Lease, type ObjectStore } from '@strata/store'

/**
 * Cancels a request, in whatever state it is.
 *
 * The lease of a load or a pull that waits is ended before the request is recorded as cancelled.
 * The cancel request itself lies in Redis alone: if Redis lost its data, a load whose bytes are in
 * the store would still be made. A lease whose names are being set, or that another run takes over
 * at this moment, is left to that run. The run sees the cancel request, or the cancel was too late.
 */
@Injectable()
export class Cancellation {
  readonly #leases: Leases

  constructor(
    private readonly journal: Journal,
    @Inject(OBJECT_STORE) store: ObjectStore,
  ) {
    this.#leases = new Leases(store)
  }

  /**
   * @throws StrataError `job_not_found`, `job_expired`, `queue_unavailable`, `store_unavailable`
   */
  async cancel(id: string): Promise<void> {
    await this.journal.cancel(id, async () => {
      const upload = await this.#leases.ofRequest(id)
      if (upload && waitsForItsJob(upload)) await this.#leases.endUnchanged(upload.id, upload.etag)
    })
  }
}

/** A job keeps the lease, and sets no name yet. */
function waitsForItsJob({ job, state }: Lease): boolean {
  return LEASE_POLICIES[job.kind].keptBy[state] === 'job' && (state === 'receiving' || state === 'received')
}
