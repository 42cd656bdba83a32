import { Inject, Injectable } from '@nestjs/common'
import { Journal } from '@strata/queue'
import { OBJECT_STORE, Leases, type ObjectStore } from '@strata/store'

/**
 * Cancels a request, in whatever state it is.
 *
 * The upload of a load that waits is ended before the request is recorded as cancelled. The cancel
 * request itself lies in Redis alone: if Redis lost its data, a load whose bytes are in the store
 * would still be made. An upload whose names are being set, or that another run takes over at this
 * moment, is left to that run. The run sees the cancel request, or the cancel was too late.
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
      if (upload?.state === 'received') await this.#leases.endUnchanged(upload.id, upload.etag)
    })
  }
}
