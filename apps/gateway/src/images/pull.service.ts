import { randomUUID } from 'node:crypto'
import { Inject, Injectable } from '@nestjs/common'
import { asCode, failpoint } from '@strata/base'
import { formatReference, parseTagged } from '@strata/oci'
import { readSecretFile } from '@strata/platform'
import { QUEUES, Sealer, type PullCredentials } from '@strata/queue'
import { Leases, OBJECT_STORE, type LeaseRun, type ObjectStore } from '@strata/store'
import { GATEWAY_CONFIG, type GatewayConfig } from '../config.js'
import { Requests } from '../jobs/requests.js'

export interface PullRequest {
  readonly job: string
  /** The image's name, as a person writes it. */
  readonly name: string
  readonly platform?: string | undefined
  readonly prepare: boolean
  readonly insecure: boolean
  readonly credentials: PullCredentials | undefined
}

/**
 * Begins pulls. The lease is made here, with all that a job needs which Redis loses, but for the
 * credentials: these are in the job alone, sealed.
 */
@Injectable()
export class PullService {
  readonly #leases: Leases
  readonly #sealer: Sealer

  constructor(
    @Inject(OBJECT_STORE) store: ObjectStore,
    private readonly requests: Requests,
    @Inject(GATEWAY_CONFIG) config: GatewayConfig,
  ) {
    this.#leases = new Leases(store)
    this.#sealer = new Sealer(Buffer.from(readSecretFile(config.STRATA_NODE_SECRET_FILE, 'STRATA_NODE_SECRET_FILE')))
  }

  /**
   * Resolves when the job is queued.
   * @throws StrataError `name_invalid`, `job_exists`, `queue_unavailable`, `store_unavailable`
   */
  async begin({ job, name, platform, prepare, insecure, credentials }: PullRequest): Promise<void> {
    const asked = {
      reference: formatReference(parseTagged(name)),
      prepare,
      insecure,
      ...(platform === undefined ? {} : { platform }),
    }
    let run: LeaseRun | undefined
    const prepareJob = async () => {
      const request = { ...asked, hasCredentials: credentials !== undefined }
      run = await this.#leases
        .create(randomUUID(), { job: { kind: 'pull', id: job }, request })
        .catch((error: unknown) => {
          throw asCode(error, { exists: 'job_exists' })
        })
      failpoint('pull.lease-made')
      const sealed = credentials && this.#sealer.seal(credentials, job)
      const data = { root: job, upload: run.lease, ...asked, ...(sealed === undefined ? {} : { sealed }) }
      return { name: 'pull', queue: QUEUES.pull, id: job, data } as const
    }
    const undo = async (): Promise<void> => {
      if (run) await this.#leases.endBy(run, 'failed')
    }
    await this.requests.begin({ id: job, kind: 'pull' }, prepareJob, undo)
    failpoint('pull.queued')
  }
}
