import { Injectable } from '@nestjs/common'
import type { ContainerView, DiskUsage } from '@strata/api'
import { Images } from '@strata/images'
import { NodeDirectory } from '@strata/queue'
import { ContainerDirectory } from '../containers/container-directory.js'
import { NodeApiClient } from '../containers/node-api-client.js'

type Usage = DiskUsage['images']
const NOTHING: Usage = { total: 0, active: 0, bytes: 0, reclaimable: 0 }

/**
 * docker's `system df`. The images are measured from their manifests, and each node reports the
 * rest.
 */
@Injectable()
export class DiskUsageService {
  constructor(
    private readonly images: Images,
    private readonly containers: ContainerDirectory,
    private readonly nodes: NodeDirectory,
    private readonly nodeApi: NodeApiClient,
  ) {}

  /**
   * Reads every image and every container, page by page. It holds the digest of each blob, and
   * what each container has written, which is part of the answer. `gone` aborts when the client
   * has left.
   */
  async measure(gone: AbortSignal): Promise<DiskUsage> {
    const used = new Set<string>()
    const running = new Set<string>()
    let total = 0
    const count = ({ id, imageId, state }: ContainerView): void => {
      total++
      used.add(imageId)
      if (state === 'running') running.add(id)
    }
    const [nodes] = await Promise.all([this.#nodes(gone), this.containers.visit(gone, count)])
    const written = nodes.flatMap((node) => node.containers)
    return {
      images: await this.images.all.usage(({ id }) => used.has(id)),
      containers: {
        total,
        active: running.size,
        bytes: sum(written),
        reclaimable: sum(written.filter(({ id }) => !running.has(id))),
      },
      layers: nodes.map(({ layers }) => layers).reduce(add, NOTHING),
      nodes,
    }
  }

  async #nodes(gone: AbortSignal): Promise<DiskUsage['nodes']> {
    const alive = new Map((await this.nodes.list()).map((node) => [node.id, node]))
    return Promise.all(
      (await this.nodes.known()).map(async (id) => {
        const node = alive.get(id)
        const usage = node && (await this.nodeApi.call(node, 'usage', {}, gone).catch(() => undefined))
        return { node: id, answers: usage !== undefined, ...(usage ?? { containers: [], layers: NOTHING }) }
      }),
    )
  }
}

function sum(items: readonly { readonly bytes: number }[]): number {
  return items.reduce((total, { bytes }) => total + bytes, 0)
}

function add(a: Usage, b: Usage): Usage {
  return {
    total: a.total + b.total,
    active: a.active + b.active,
    bytes: a.bytes + b.bytes,
    reclaimable: a.reclaimable + b.reclaimable,
  }
}
