import { Injectable } from '@nestjs/common'
import type { CollectRequest, CollectResult } from '@strata/api'
import { failpoint } from '@strata/base'
import { QUEUES } from '@strata/queue'
import { Requests } from '../jobs/requests.js'

/** Asks for a collection: it frees what nobody needs, in the store and on the nodes. */
@Injectable()
export class CollectionService {
  constructor(private readonly requests: Requests) {}

  /**
   * Begins a collection as the request `job`.
   * @throws StrataError `job_exists`, `queue_unavailable`
   */
  async begin({ dryRun = false, untagged = false, absentContainers = [] }: CollectRequest, job: string): Promise<void> {
    await this.requests.begin({ id: job, kind: 'collect' }, () => {
      failpoint('collect.journal-made')
      return {
        name: 'collect',
        queue: QUEUES.collect,
        id: job,
        data: { root: job, dryRun, untagged, absentContainers },
      }
    })
  }

  /** What the collection `job` came to. @throws StrataError why it failed */
  async result(job: string, gone: AbortSignal): Promise<CollectResult> {
    return this.requests.result('collect', job, gone)
  }
}
