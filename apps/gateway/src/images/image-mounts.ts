import { Injectable } from '@nestjs/common'
import type { MountResult } from '@strata/api'
import type { ImageDetails } from '@strata/images'
import { StrataError } from '@strata/base'
import { type Digest } from '@strata/oci'
import { NodeDirectory, QUEUES } from '@strata/queue'
import { imageRef } from '@strata/api'
import { NodeApiClient } from '../containers/node-api-client.js'
import { Requests } from '../jobs/requests.js'

/**
 * Mounts an image's root as a folder on a node: jobs assemble it there, then the node API mounts
 * it.
 */
@Injectable()
export class ImageMounts {
  constructor(
    private readonly requests: Requests,
    private readonly nodes: NodeDirectory,
    private readonly nodeApi: NodeApiClient,
  ) {}

  /**
   * @param gone aborts when the client has left. Then work under way is cancelled, but the mount
   * may still be made
   */
  async mount(image: ImageDetails, gone: AbortSignal): Promise<MountResult> {
    await this.nodeApi.requireNode()
    const ref = imageRef(image)
    const { node } = await this.requests.run(
      'prepare',
      (id) => ({
        name: 'place',
        queue: QUEUES.runtime,
        id,
        data: { root: id, purpose: 'assemble', image: ref },
      }),
      'assemble',
      gone,
    )
    return this.nodeApi.call(await this.nodes.get(node), 'mountImage', { body: ref }, gone)
  }

  /** Asks all nodes at once, so that a silent node does not delay the others. */
  async umount(id: Digest, gone: AbortSignal): Promise<void> {
    const nodes = await this.nodes.list()
    const asked = await Promise.allSettled(
      nodes.map((node) => this.nodeApi.call(node, 'umountImage', { params: { id } }, gone)),
    )
    for (const answer of asked) if (answer.status === 'rejected') throw answer.reason
    if (!asked.some((answer) => answer.status === 'fulfilled' && answer.value.removed))
      throw new StrataError('not_found', `the image ${id} is not mounted`)
  }
}
