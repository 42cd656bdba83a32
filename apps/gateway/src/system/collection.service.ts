import { Injectable } from '@nestjs/common'
import type { CollectRequest, CollectResult } from '@strata/api'
import { failpoint } from '@strata/base'
import { QUEUES } from '@strata/queue'
import { Requests } from '../jobs/requests.js'

/** Begins collections. A collection frees what nothing needs, in the store and on the nodes. */
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

  /** The result of the collection `job`, once it has ended. @throws StrataError why it failed */
  async result(job: string, gone: AbortSignal): Promise<CollectResult> {
    return this.requests.result('collect', job, gone)
  }
}
