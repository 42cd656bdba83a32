import { randomBytes } from 'node:crypto'
import { Inject, Injectable } from '@nestjs/common'
import { imageRef, type ContainerView, type CreateContainer } from '@strata/api'
import { Images } from '@strata/images'
import { failpoint, StrataError } from '@strata/base'
import { readSecretFile } from '@strata/platform'
import { NodeDirectory, QUEUES, Sealer, type SealedSpec } from '@strata/queue'
import { GATEWAY_CONFIG, type GatewayConfig } from '../config.js'
import { Requests } from '../jobs/requests.js'
import { ContainerDirectory } from './container-directory.js'
import { randomName } from './names.js'
import { NodeApiClient } from './node-api-client.js'

/**
 * A start of a container, under way as the request `job`. Without `job` the container runs already.
 */
export interface BegunStart {
  readonly id: string
  readonly job: string | undefined
}

/**
 * Turns requests to create or launch a container into a `place` job, and requests to start one into
 * a `start` job on the node that has it. The nodes decide which of them takes a `place` job, and do
 * all that follows.
 */
@Injectable()
export class LaunchService {
  readonly #sealer: Sealer

  constructor(
    @Inject(GATEWAY_CONFIG) config: GatewayConfig,
    private readonly images: Images,
    private readonly requests: Requests,
    private readonly nodes: NodeDirectory,
    private readonly nodeApi: NodeApiClient,
    private readonly containers: ContainerDirectory,
  ) {
    this.#sealer = new Sealer(Buffer.from(readSecretFile(config.STRATA_NODE_SECRET_FILE, 'STRATA_NODE_SECRET_FILE')))
  }

  /**
   * Resolves with the container's id when the job is queued.
   * @param start false: the container is created only
   */
  async launch(request: CreateContainer, job: string, { start }: { readonly start: boolean }): Promise<string> {
    const image = await this.images.details(request.image)
    await this.nodeApi.requireNode()
    const container = randomBytes(32).toString('hex')
    let name: string | undefined
    await this.requests.begin(
      { id: job, kind: 'launch', container },
      async () => {
        name = await this.#claimName(request.name, container)
        failpoint('launch.name-claimed')
        const { command, entrypoint, env = [], workdir, user, hostname } = request
        const secret: SealedSpec = { command, entrypoint, env, workdir, user, hostname }
        const launch = {
          container,
          name,
          imageName: request.image,
          image: imageRef(image),
          sealed: this.#sealer.seal(secret, container),
          network: request.network ?? 'none',
          autoRemove: request.autoRemove ?? false,
          attach: request.attach ?? false,
          start,
        }
        return { name: 'place', queue: QUEUES.runtime, id: job, data: { root: job, purpose: 'launch', launch } }
      },
      async () => {
        if (name !== undefined) await this.nodes.releaseName(name, container)
      },
    )
    failpoint('launch.queued')
    return container
  }

  /**
   * The container, once it was launched.
   * @throws StrataError why the launch failed, with the message of its node if that answers
   */
  async launched(image: string, container: string, job: string, signal: AbortSignal): Promise<ContainerView> {
    // If the image was removed meanwhile, the node's error names only the part that is missing.
    await this.images.reading(image, () =>
      this.requests.result(
        'launch',
        job,
        signal,
        async (error) => (await this.nodeApi.launchFailure(container, signal)) ?? error,
      ),
    )
    return this.containers.get(container, signal)
  }

  /**
   * Resolves when the job is queued. The start has the next number after the container's earlier
   * starts. So a job that runs twice, or several requests at once, start one process.
   * @throws StrataError `container_not_found`, `container_ambiguous`, `node_unavailable`,
   * `job_exists`, `queue_unavailable`
   */
  async start(ref: string, job: string, attach: boolean, gone: AbortSignal): Promise<BegunStart> {
    const { id, node: nodeId } = await this.containers.find(ref)
    const node = await this.nodes.get(nodeId)
    const { state, starts = 0 } = await this.nodeApi.call(node, 'getContainer', { params: { id } }, gone)
    if (state === 'running') return { id, job: undefined }
    await this.requests.begin({ id: job, kind: 'start', container: id }, () => {
      failpoint('start.journal-made')
      const data = { root: job, container: id, number: starts + 1, attach }
      return { name: 'start', queue: QUEUES.runtimeOn(nodeId), id: job, data }
    })
    failpoint('start.queued')
    return { id, job }
  }

  /**
   * The container, once the start has ended well.
   * @throws StrataError why the start failed, with the message of its node
   */
  async started({ id, job }: BegunStart, signal: AbortSignal): Promise<ContainerView> {
    if (job !== undefined)
      await this.requests.result('start', job, signal, async (error) => {
        // The node may know of an earlier launch that failed.
        const told = await this.nodeApi.launchFailure(id, signal)
        return told?.code === error.code ? told : error
      })
    return this.containers.get(id, signal)
  }

  async #claimName(wanted: string | undefined, container: string): Promise<string> {
    if (wanted !== undefined) {
      if (await this.nodes.claimName(wanted, container)) return wanted
      throw new StrataError(
        'container_exists',
        `the name ${wanted} is used by another container: remove that (strata rm ${wanted}), or choose another name`,
      )
    }
    for (let attempt = 0; ; attempt++) {
      const name = randomName(attempt)
      if (await this.nodes.claimName(name, container)) return name
    }
  }
}
