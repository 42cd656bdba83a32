import { Injectable } from '@nestjs/common'
import {
  containerId,
  containerSchema,
  firstPage,
  isListed,
  MAX_PAGE,
  mergePages,
  type ContainerView,
  type ListContainers,
  type Page,
  type PruneContainers,
  type PrunedContainers,
} from '@strata/api'
import { asStrataError, StrataError } from '@strata/base'
import { NodeDirectory, type NodeRecord } from '@strata/queue'
import { NodeApiClient } from './node-api-client.js'

/** So many nodes are asked at the same time. Each answers with at most a page. */
const AT_ONCE = 16
/** So many published containers are read at the same time. */
const READ_AT_ONCE = 100
const HEX = /^[0-9a-f]+$/

/** A node that may have containers. `record`: it is registered. */
interface KnownNode {
  readonly id: string
  readonly record: NodeRecord | undefined
  /** It was asked, and did not answer. It is not asked again for the same request. */
  isSilent: boolean
}

/**
 * The containers of all nodes. Their places are read from what the nodes publish. Their state, with
 * the command, comes from the node itself. If the node does not answer, it is the state that the
 * node published last.
 */
@Injectable()
export class ContainerDirectory {
  constructor(
    private readonly nodes: NodeDirectory,
    private readonly nodeApi: NodeApiClient,
  ) {}

  /**
   * A page of all nodes' containers, in the order of their ids. Holds the page, and one page of
   * each of `AT_ONCE` nodes. Here and below, `gone` aborts when the client has left.
   */
  async page(query: ListContainers, gone: AbortSignal): Promise<Page<ContainerView>> {
    let page: Page<ContainerView> = { items: [] }
    for await (const pages of this.#onEachNode((node) => this.#pageOf(node, query, gone)))
      page = await mergePages([page, ...pages], query.limit, idOf)
    return page
  }

  /** Calls `use` for every container, in no order. Holds one page of each of `AT_ONCE` nodes. */
  async visit(gone: AbortSignal, use: (container: ContainerView) => void): Promise<void> {
    const visitNode = async (node: KnownNode): Promise<void> => {
      let after: string | undefined
      do {
        const page = await this.#pageOf(node, { all: true, limit: MAX_PAGE, after }, gone)
        for (const container of page.items) use(container)
        after = page.next
      } while (after !== undefined)
    }
    const visited = this.#onEachNode(visitNode)
    while (!(await visited.next()).done);
  }

  /** What `work` gives for each node that is known, `AT_ONCE` of them at a time. */
  async *#onEachNode<T>(work: (node: KnownNode) => Promise<T>): AsyncGenerator<readonly T[]> {
    const [alive, known] = await Promise.all([this.nodes.list(), this.nodes.known()])
    const nodes = known.map((id) => ({ id, record: alive.find((one) => one.id === id), isSilent: false }))
    for (let at = 0; at < nodes.length; at += AT_ONCE) yield await Promise.all(nodes.slice(at, at + AT_ONCE).map(work))
  }

  async #pageOf(node: KnownNode, query: ListContainers, gone: AbortSignal): Promise<Page<ContainerView>> {
    if (node.record && !node.isSilent) {
      const answer = await this.nodeApi.call(node.record, 'listContainers', { query }, gone).catch(() => undefined)
      if (answer) return { items: answer.containers, ...(answer.next === undefined ? {} : { next: answer.next }) }
      node.isSilent = true
    }
    return firstPage(this.#published(node, query), query.limit, idOf)
  }

  /** The containers of a node that does not answer, as it published them. */
  async *#published(
    { id, record }: KnownNode,
    { all, limit, after = '' }: ListContainers,
  ): AsyncGenerator<ContainerView> {
    const ids = (await this.nodes.containerIds(id)).filter((one) => one > after)
    const atOnce = Math.min(limit + 1, READ_AT_ONCE)
    for (let at = 0; at < ids.length; at += atOnce)
      for (const published of await this.nodes.publishedOf(id, ids.slice(at, at + atOnce))) {
        const view = record ? parse(published) : withoutNode(parse(published))
        if (all || isListed(view)) yield view
      }
  }

  /** Each live node removes the containers that have exited, by its own rule. */
  async prune(request: PruneContainers, gone: AbortSignal): Promise<PrunedContainers> {
    const [alive, known] = await Promise.all([this.nodes.list(), this.nodes.known()])
    const parts = await Promise.all(
      known.map(async (id): Promise<PrunedContainers> => {
        const node = alive.find((one) => one.id === id)
        try {
          if (!node) throw new StrataError('node_unavailable', `the node ${id} does not answer`)
          const { containers } = await this.nodeApi.call(node, 'pruneContainers', { body: request }, gone)
          return { containers, absent: [] }
        } catch (error) {
          return { containers: [], absent: [{ node: id, reason: asStrataError(error).message }] }
        }
      }),
    )
    return { containers: parts.flatMap(({ containers }) => containers), absent: parts.flatMap(({ absent }) => absent) }
  }

  async get(text: string, gone: AbortSignal): Promise<ContainerView> {
    const found = await this.find(text)
    const node = await this.nodes.get(found.node).catch(() => undefined)
    return node ? this.nodeApi.call(node, 'getContainer', { params: { id: found.id } }, gone) : withoutNode(found)
  }

  /**
   * The container with this id, name, or unique beginning of an id. As in docker, a full id is
   * tried first, then a name, then a prefix. Asks Redis a fixed number of times; for a prefix, once
   * for each node.
   */
  async find(text: string): Promise<ContainerView> {
    const exact = (await this.#byId(text)) ?? (await this.#byName(text))
    if (exact) return exact
    const fits = HEX.test(text) ? await this.#idsWith(text) : []
    if (fits.length > 1)
      throw new StrataError('container_ambiguous', `${text} is the beginning of ${fits.length} container ids`)
    const found = fits[0] === undefined ? undefined : await this.#byId(fits[0])
    if (!found) throw new StrataError('container_not_found', `no such container: ${text}`)
    return found
  }

  async #byId(text: string): Promise<ContainerView | undefined> {
    const published = containerId.safeParse(text).success ? await this.nodes.publishedById(text) : undefined
    return published === undefined ? undefined : parse(published)
  }

  async #byName(text: string): Promise<ContainerView | undefined> {
    const id = await this.nodes.claimantOf(text)
    const found = id === undefined ? undefined : await this.#byId(id)
    return found?.name === text ? found : undefined
  }

  /** Reads the ids of all containers. */
  async #idsWith(prefix: string): Promise<string[]> {
    const fits: string[] = []
    for (const node of await this.nodes.known())
      fits.push(...(await this.nodes.containerIds(node)).filter((id) => id.startsWith(prefix)))
    return fits
  }
}

function idOf({ id }: ContainerView): string {
  return id
}

function parse(value: unknown): ContainerView {
  return containerSchema.parse(value)
}

/**
 * A container whose node is gone has no known state: it may still run there, or its machine may not
 * exist any more. One that has exited or waits for a start runs nowhere: the node would have
 * published another state before it started it.
 */
function withoutNode(shown: ContainerView): ContainerView {
  if (shown.state === 'exited' || shown.waits) return shown
  const view = { ...shown }
  delete view.pid
  return {
    ...view,
    state: 'unknown',
    reason: `the node ${view.node} does not answer; it was ${view.state} when last heard of`,
  }
}
