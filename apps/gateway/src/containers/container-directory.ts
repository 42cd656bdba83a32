import { Injectable } from '@nestjs/common'
import { containerSchema, type ContainerView, type PruneContainers, type PrunedContainers } from '@strata/api'
import { asStrataError, StrataError } from '@strata/base'
import { NodeDirectory } from '@strata/queue'
import { NodeApiClient } from './node-api-client.js'

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

  /** The newest first. `gone`: here and below, aborted when the client has left. */
  async list(gone: AbortSignal): Promise<ContainerView[]> {
    const [alive, known] = await Promise.all([this.nodes.list(), this.published()])
    const asked = await Promise.all(
      alive.map(async (node) => {
        const views = await this.nodeApi.call(node, 'listContainers', {}, gone).catch(() => undefined)
        return { id: node.id, views }
      }),
    )
    const answered = new Map(asked.flatMap(({ id, views }) => (views ? [[id, views] as const] : [])))
    const there = new Set(alive.map(({ id }) => id))
    const silent = known
      .filter(({ node }) => !answered.has(node))
      .map((view) => (there.has(view.node) ? view : withoutNode(view)))
    return [...silent, ...[...answered.values()].flat()].sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1))
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

  async published(): Promise<ContainerView[]> {
    return (await this.nodes.containers()).map(parse)
  }

  /**
   * The ids of the images that containers use. `forced`: as far as Redis knows.
   * @throws StrataError `node_unavailable` where that is not known of some node
   */
  async imagesInUse({ forced }: { readonly forced: boolean }): Promise<ReadonlySet<string>> {
    const containers = forced ? await this.nodes.containers() : await this.nodes.allContainers()
    return new Set(containers.map((container) => parse(container).imageId))
  }

  async get(text: string, gone: AbortSignal): Promise<ContainerView> {
    const found = await this.find(text)
    const node = await this.nodes.get(found.node).catch(() => undefined)
    return node ? this.nodeApi.call(node, 'getContainer', { params: { id: found.id } }, gone) : withoutNode(found)
  }

  /**
   * By id, name, or the unique beginning of an id: as docker, a full id first, then a name, then a
   * prefix.
   */
  async find(text: string): Promise<ContainerView> {
    const all = await this.published()
    const exact = all.find(({ id }) => id === text) ?? all.find(({ name }) => name === text)
    if (exact) return exact
    const fits = /^[0-9a-f]+$/.test(text) ? all.filter(({ id }) => id.startsWith(text)) : []
    if (fits.length > 1)
      throw new StrataError('container_ambiguous', `${text} is the beginning of ${fits.length} container ids`)
    const [found] = fits
    if (!found) throw new StrataError('container_not_found', `no such container: ${text}`)
    return found
  }
}

function parse(value: unknown): ContainerView {
  return containerSchema.parse(value)
}

/**
 * A container whose node is gone has no known state: it may still run there, or its machine may not
 * exist any more.
 */
function withoutNode(shown: ContainerView): ContainerView {
  if (shown.state === 'exited') return shown
  const view = { ...shown }
  delete view.pid
  return {
    ...view,
    state: 'unknown',
    reason: `the node ${view.node} does not answer; it was ${view.state} when last heard of`,
  }
}
