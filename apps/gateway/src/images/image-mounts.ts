import { randomUUID } from 'node:crypto'
import { Injectable } from '@nestjs/common'
import type { MountResult } from '@strata/api'
import type { ImageDetails } from '@strata/images'
import { StrataError } from '@strata/base'
import { type Digest } from '@strata/oci'
import { Journal, NodeDirectory, Producer, QUEUES } from '@strata/queue'
import { imageRef } from '../containers/image-ref.js'
import { NodeDoors } from '../containers/node-doors.js'

/**
 * An image's root as a folder on a node: assembled there by jobs, then mounted through the node's
 * door.
 */
@Injectable()
export class ImageMounts {
  constructor(
    private readonly journal: Journal,
    private readonly producer: Producer,
    private readonly nodes: NodeDirectory,
    private readonly doors: NodeDoors,
  ) {}

  /** @param signal aborted when nobody waits for the mount any more; it may be made all the same */
  async mount(image: ImageDetails, signal: AbortSignal): Promise<MountResult> {
    await this.doors.requireNode()
    const job = randomUUID()
    const ref = imageRef(image)
    await this.journal.create(job, 'prepare', 'waiting')
    await this.producer.add({
      name: 'place',
      queue: QUEUES.runtime,
      id: job,
      data: { root: job, purpose: 'assemble', image: ref },
    })
    const { error, result } = await this.journal.end(job, signal)
    if (error) throw new StrataError(error.code, error.message)
    const { node } = result as { node: string }
    return this.doors.json<MountResult>(await this.nodes.get(node), {
      method: 'POST',
      path: '/mounts',
      body: ref,
      as: 'command',
      gone: signal,
    })
  }

  /** All nodes are asked at once: one that is silent keeps no other waiting. */
  async umount(id: Digest, gone: AbortSignal): Promise<void> {
    const nodes = await this.nodes.list()
    const asked = await Promise.allSettled(
      nodes.map((node) =>
        this.doors.json<{ removed: boolean }>(node, { method: 'DELETE', path: `/mounts/${id}`, as: 'command', gone }),
      ),
    )
    for (const answer of asked) if (answer.status === 'rejected') throw answer.reason
    if (!asked.some((answer) => answer.status === 'fulfilled' && answer.value.removed))
      throw new StrataError('not_found', `the image ${id} is not mounted`)
  }
}
