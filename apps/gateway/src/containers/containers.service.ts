import type { IncomingMessage } from 'node:http'
import { Injectable } from '@nestjs/common'
import type {
  ApiRequest,
  ContainerList,
  ContainerView,
  CreateContainer,
  ListContainers,
  NodeApiAnswer,
  NodeApiName,
  NodeApiRequest,
  PruneContainers,
  PrunedContainers,
  RequestParts,
  WaitResult,
} from '@strata/api'
import { NodeDirectory } from '@strata/queue'
import { ContainerDirectory } from './container-directory.js'
import { LaunchService, type BegunStart } from './launch.service.js'
import { NodeApiClient } from './node-api-client.js'

/** The node API's routes about one container. */
type ContainerRoute = Extract<NodeApiName, `${string}Container` | 'containerLogs'>

/**
 * Containers, wherever they are. A container is named by its id, its name, or the unique beginning
 * of its id.
 *
 * `gone` aborts when the client has left. All methods that name a container throw
 * `container_not_found`, `container_ambiguous` and `node_unavailable`.
 */
@Injectable()
export class ContainersService {
  constructor(
    private readonly launches: LaunchService,
    private readonly directory: ContainerDirectory,
    private readonly nodes: NodeDirectory,
    private readonly nodeApi: NodeApiClient,
  ) {}

  /**
   * Begins a launch as the request `job`, and answers with the container's id.
   * @param options `start: false` creates the container, and starts nothing
   */
  async launch(request: CreateContainer, job: string, options: { readonly start: boolean }): Promise<string> {
    return this.launches.launch(request, job, options)
  }

  /** Begins the start of a container that does not run, as the request `job`. */
  async start(ref: string, job: string, attach: boolean, gone: AbortSignal): Promise<BegunStart> {
    return this.launches.start(ref, job, attach, gone)
  }

  /** The container, once it runs or has run. @throws StrataError why the start failed */
  async started(start: BegunStart, gone: AbortSignal): Promise<ContainerView> {
    return this.launches.started(start, gone)
  }

  /** The container, once the launch `job` has ended well. @throws StrataError why it failed */
  async launched(image: string, id: string, job: string, gone: AbortSignal): Promise<ContainerView> {
    return this.launches.launched(image, id, job, gone)
  }

  /** A page in the order of the ids; within it the newest come first. `next`: more may follow. */
  async list(query: ListContainers, gone: AbortSignal): Promise<ContainerList> {
    const { items, ...rest } = await this.directory.page(query, gone)
    return { containers: items.toSorted((a, b) => (a.createdAt < b.createdAt ? 1 : -1)), ...rest }
  }

  /** Every node that lives removes what has exited, by its own rule. */
  async prune(request: PruneContainers, gone: AbortSignal): Promise<PrunedContainers> {
    return this.directory.prune(request, gone)
  }

  async get(ref: string, gone: AbortSignal): Promise<ContainerView> {
    return this.directory.get(ref, gone)
  }

  /** Answers when the container has exited. */
  async wait(ref: string, gone: AbortSignal): Promise<WaitResult> {
    return this.#ask(ref, 'waitContainer', {}, gone)
  }

  /** Hands the node's answer to `use`: the output, as docker frames it or bare. */
  async logs(
    ref: string,
    query: NonNullable<ApiRequest<'containerLogs'>['query']>,
    gone: AbortSignal,
    use: (answer: IncomingMessage) => Promise<void>,
  ): Promise<void> {
    const { node, id } = await this.#locate(ref)
    await this.nodeApi.stream(node, 'containerLogs', { params: { id }, query }, gone, use)
  }

  async stop(ref: string, body: NonNullable<ApiRequest<'stopContainer'>['body']>, gone: AbortSignal): Promise<void> {
    await this.#ask(ref, 'stopContainer', { body }, gone)
  }

  /** @throws StrataError `container_not_running` */
  async kill(ref: string, body: NonNullable<ApiRequest<'killContainer'>['body']>, gone: AbortSignal): Promise<void> {
    await this.#ask(ref, 'killContainer', { body }, gone)
  }

  /** @throws StrataError `container_running` without `force` */
  async remove(ref: string, force: boolean, gone: AbortSignal): Promise<void> {
    await this.#ask(ref, 'removeContainer', { query: { force } }, gone)
  }

  async #locate(ref: string) {
    const container = await this.directory.find(ref)
    return { id: container.id, node: await this.nodes.get(container.node) }
  }

  async #ask<N extends ContainerRoute>(
    ref: string,
    name: N,
    request: Omit<NodeApiRequest<N>, 'params'>,
    gone: AbortSignal,
  ): Promise<NodeApiAnswer<N>> {
    const { node, id } = await this.#locate(ref)
    return this.nodeApi.call(node, name, { ...request, params: { id } } as NodeApiRequest<N> & RequestParts, gone)
  }
}
