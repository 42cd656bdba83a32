import type { ContainerClaim, Containers } from '@strata/containers'
import { asStrataError, imageConfigSchema, MAX_JSON_BYTES, parseJson, step, StrataError } from '@strata/oci'
import { QUEUES, sealedSchema, WaitingForChildren, type Handlers, type ImageRef, type JobContext, type JobData, type LaunchSpec, type QueueClient, type Sealer } from '@strata/queue'
import type { BlobStore } from '@strata/store'
import type { ImageRoots } from './image-roots.js'

/**
 * What a node does for others: takes a request from the shared queue (`place`), and carries it out on its own (`assemble`, `launch`).
 *
 * `place` may run twice, here or elsewhere: the container's id is claimed once, and its jobs have fixed ids, so the second run adds nothing.
 */
export class NodeJobs {
  constructor(
    private readonly node: string,
    private readonly queue: QueueClient,
    private readonly roots: ImageRoots,
    private readonly containers: Containers,
    private readonly blobs: BlobStore,
    private readonly sealer: Sealer,
    /** Resolves when what has happened so far can be seen through any gateway. */
    private readonly published: () => Promise<void>,
  ) {}

  readonly shared: Handlers<'runtime'> = { place: (data, context) => this.#place(data, context) }
  readonly own: Handlers<'runtime.node'> = {
    assemble: async ({ image }, context) => {
      await context.children([])
      await this.#assembled(image, context.signal)
      return { node: this.node, id: image.id }
    },
    launch: async ({ launch }, context) => {
      try {
        await context.children([])
        await context.progress({ step: 'launching' })
        await this.#assembled(launch.image, context.signal)
        await this.containers.launch(launch.container, { signal: context.signal })
      } catch (error) {
        if (error instanceof WaitingForChildren) throw error
        await this.#notLaunched(launch, asStrataError(error))
        throw error
      }
      await this.published()
      return { node: this.node, container: launch.container }
    },
  }

  /** The container stays, with the reason, as any that has ended; it goes with its name if it was to be removed, or was taken back. */
  async #notLaunched({ container, autoRemove }: LaunchSpec, error: StrataError): Promise<void> {
    await this.containers.refuse(container, error)
    if ((autoRemove || error.code === 'cancelled') && this.#isClaimed(container)) await this.containers.remove(container)
    await this.published()
  }

  async #place(data: JobData<'place'>, context: JobContext): Promise<{ node: string }> {
    const { root } = data
    if (!context.parent) await context.progress({ state: 'active', step: 'placing' })
    if (data.purpose === 'assemble') {
      context.signal.throwIfAborted()
      const children = await this.roots.missing(root, data.image)
      const job = { name: 'assemble', queue: QUEUES.runtimeOn(this.node), id: context.parent ? `${context.id}-on-${this.node}` : root, data: { root, image: data.image } } as const
      if (!(await this.queue.producer.has(job))) await this.queue.producer.addFlow(job, children, context.parent)
      return { node: this.node }
    }
    const { launch } = data
    const node = await this.queue.nodes.claimContainer(launch.container, this.node)
    step('launch.claimed')
    try {
      context.signal.throwIfAborted()
      if (node === this.node) await this.containers.claim(launch.container, await this.#claim(launch))
      step('launch.recorded')
      const job = { name: 'launch', queue: QUEUES.runtimeOn(node), id: root, data: { root, launch } } as const
      // A container that another node took before it died: that node's jobs find out themselves what is there.
      if (!(await this.queue.producer.has(job))) await this.queue.producer.addFlow(job, node === this.node ? await this.roots.missing(root, launch.image) : [])
      step('launch.placed')
      return { node }
    } catch (error) {
      if (node === this.node && !this.#isClaimed(launch.container)) {
        await this.queue.nodes.forgetContainer(launch.container)
        await this.queue.nodes.releaseName(launch.name, launch.container)
      }
      throw error
    }
  }

  async #claim(launch: LaunchSpec): Promise<ContainerClaim> {
    const config = parseJson(imageConfigSchema, await this.blobs.read(launch.image.id, MAX_JSON_BYTES), `the config of ${launch.imageName}`, 'corrupt')
    const { workdir, user, hostname, network } = launch
    return {
      name: launch.name,
      image: { name: launch.imageName, id: launch.image.id, chainId: this.roots.chainId(launch.image), config: config.config },
      request: { ...this.sealer.open(sealedSchema, launch.sealed, launch.container), workdir, user, hostname, network },
      autoRemove: launch.autoRemove,
      attached: launch.attach,
    }
  }

  #isClaimed(container: string): boolean {
    return this.containers.list().some(({ id }) => id === container)
  }

  async #assembled(image: ImageRef, signal: AbortSignal): Promise<void> {
    await this.roots.assemble(image, signal).catch((error: unknown) => {
      if (error instanceof StrataError && error.code === 'not_found') throw new StrataError('layer_missing', error.message, { cause: error })
      throw error
    })
  }
}
