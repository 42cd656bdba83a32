import { Logger } from '@nestjs/common'
import { imageRef, type ImageRef } from '@strata/api'
import {
  pendingJob,
  type ContainerClaim,
  type ContainerRecord,
  type Containers,
  type ContainerStart,
} from '@strata/containers'
import { asConfidential, asStrataError, failpoint, StrataError } from '@strata/base'
import type { Images } from '@strata/images'
import { expectConfig, imageConfigSchema, MAX_JSON_BYTES, parseJson } from '@strata/oci'
import {
  endsRunOnly,
  placeElsewhere,
  QUEUES,
  sealedSchema,
  type Handlers,
  type JobContext,
  type JobData,
  type LaunchSpec,
  type NodeMembership,
  type QueueClient,
  type Sealer,
} from '@strata/queue'
import type { BlobStore } from '@strata/store'
import type { ImageRoots } from './image-roots.js'
import type { LaunchFailures } from './launch-failures.js'
import type { NodeCleaner } from './node-cleaner.js'

/** How often each layer of an image is asked for again. */
const MOST_ASKED = 5
/**
 * Answers that took longer are asked for again before a process starts. Well below the time after
 * which a node that has just renewed counts as gone.
 */
const FRESH_MS = 1_000
/**
 * How long a start waits in its slot until its container is free: an end takes some tens of
 * milliseconds. On a busy disk it takes minutes, and then the start is put back.
 */
const TURN_MS = 1_000

/**
 * What a node does for others: takes a request from the shared queue (`place`), and carries it out
 * on its own (`assemble`, `launch`, `start`).
 *
 * `place` may run twice, here or elsewhere: the container's id is claimed once, and its jobs have
 * fixed ids, so the second run adds nothing.
 */
export class NodeJobs {
  readonly #logger = new Logger('runtime')

  constructor(
    private readonly node: string,
    private readonly queue: QueueClient,
    private readonly roots: ImageRoots,
    private readonly containers: Containers,
    private readonly images: Images,
    private readonly blobs: BlobStore,
    private readonly sealer: Sealer,
    private readonly cleaner: NodeCleaner,
    private readonly failures: LaunchFailures,
    private readonly membership: NodeMembership,
    /** Resolves when what has happened so far can be seen through any gateway. */
    private readonly published: () => Promise<void>,
  ) {}

  readonly shared: Handlers<'runtime'> = { place: (data, context) => this.#place(data, context) }
  readonly assemblies: Handlers<'assemble.node'> = {
    assemble: async ({ root, image }, context) => {
      await context.children([])
      if (context.parent && (await this.#cannotMake(root, image))) {
        // Its layers were to be made here, by an extractor that is gone.
        await placeElsewhere(this.queue.producer, { id: context.id, root, image, parent: context.parent })
        return { node: this.node, id: image.id }
      }
      await this.#assembled(root, image, context)
      return { node: this.node, id: image.id }
    },
  }
  readonly own: Handlers<'runtime.node'> = {
    ...this.assemblies,
    launch: async ({ root, launch }, context) => {
      try {
        // One that an earlier run has brought further is only observed.
        const isUnderWay = this.#isUnderWay(root, launch.container)
        if (isUnderWay) {
          await context.children([])
          await context.progress({ step: launch.start ? 'launching' : 'creating' })
          await this.#assembled(root, launch.image, context)
        }
        if (launch.start)
          await this.#inConfidence(launch.container, () =>
            this.containers.launch(launch.container, {
              signal: context.signal,
              assertOwned: () => this.#assertMayStart(root, context),
            }),
          )
        else if (isUnderWay) {
          // What was told to have failed must not stay.
          await this.#assertMayStart(root, context)
          await this.containers.ready(launch.container, root)
        }
      } catch (error) {
        if (endsRunOnly(error)) throw error
        await context.assertOwned()
        await this.#notLaunched(root, launch, asStrataError(error))
        throw error
      }
      await this.published()
      const what = launch.start ? 'launched' : 'created'
      this.#logger.log({ container: launch.container, image: launch.imageName }, `${what} ${launch.name}`)
      return { node: this.node, container: launch.container }
    },
    start: (data, context) => this.#start(data, context),
    clean: (data) => this.cleaner.clean(data),
  }

  /**
   * Starts a container that is on this node. May run twice: the start's number is on disk before
   * anything runs, and the container's record names the request.
   */
  async #start(
    { root, container, number, attach }: JobData<'start'>,
    context: JobContext,
  ): Promise<{ node: string; container: string }> {
    const start = { number, job: root, attached: attach }
    this.failures.forget(container)
    try {
      // An end that was written by a stop: the container would be shown as being started.
      await this.#assertUnderWay(root, context)
      if ((await this.#begin(container, start, context)) === 'due') {
        await context.children([])
        await context.progress({ state: 'active', step: 'starting' })
        await this.#rootOf(root, container, context)
        // Again: another start of the same number may have come to its launch, or been withdrawn.
        await this.#begin(container, start, context)
      }
      await this.#inConfidence(container, () =>
        this.containers.launch(container, {
          start,
          signal: context.signal,
          assertOwned: () => this.#assertMayStart(root, context),
        }),
      )
    } catch (error) {
      if (endsRunOnly(error)) throw error
      await context.assertOwned()
      await this.#cleanUp(container, () => this.containers.giveUp(container, asStrataError(error), root))
      await this.#notStarted(container, root)
      await this.published()
      throw error
    }
    await this.published()
    this.#logger.log({ container }, `started ${container.slice(0, 12)}`)
    return { node: this.node, container }
  }

  /**
   * Notes the start, and has it published: until then others may take the container for one that
   * has exited, or waits, and cannot run. Puts the start back while something else happens to the
   * container, so that its slot is free.
   */
  async #begin(container: string, start: ContainerStart, context: JobContext): Promise<'due' | 'done'> {
    const patience = AbortSignal.any([context.signal, AbortSignal.timeout(TURN_MS)])
    const what = (await this.containers.isFree(container, patience))
      ? await this.containers.begin(container, start)
      : 'busy'
    if (what === 'busy') {
      context.signal.throwIfAborted()
      return context.again(busy(container))
    }
    if (what === 'due') await this.published()
    return what
  }

  /** A start has failed: one that is removed at its end goes now, as after a launch that failed. */
  async #notStarted(container: string, root: string): Promise<void> {
    const record = this.#recordOf(container)
    if (!record) return
    const { autoRemove, state, job, idle } = record
    const hasFailed = state.status === 'exited' && state.error !== undefined && job === root && !idle
    if (autoRemove && hasFailed) await this.#cleanUp(container, () => this.containers.remove(container))
    await this.#cleanUp(container, () => this.roots.release(record.image.chainId, container))
  }

  /**
   * A step behind a failure. If it fails too, the request still ends with what went wrong first.
   * The container is looked after later: by the publisher, its own removal at its end, or a person.
   */
  async #cleanUp<T>(container: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work()
    } catch (error) {
      this.#logger.warn({ container }, `cleaning up after a failure: ${asStrataError(error).message}`)
      return undefined
    }
  }

  /**
   * The image's root of a container that is here. It stays as long as the container does, so it is
   * made again only after a loss of power has damaged it.
   */
  async #rootOf(root: string, container: string, context: JobContext): Promise<void> {
    const { image } = this.containers.get(container)
    if (await this.roots.isAssembled(image.chainId)) return
    await this.#assembled(root, imageRef(await this.images.details(image.id)), context)
  }

  /**
   * The container stays, with the reason, as any that has ended; it goes with its name if it was
   * only to be created, was to be removed, or was taken back.
   */
  async #notLaunched(
    root: string,
    { container, autoRemove, image, start }: LaunchSpec,
    error: StrataError,
  ): Promise<void> {
    const isGivenUp = (await this.#cleanUp(container, () => this.containers.giveUp(container, error, root))) ?? false
    // A later start of it is another request's.
    if (start && (autoRemove || error.code === 'cancelled') && (isGivenUp || this.#hasOnlyFailed(container)))
      await this.#cleanUp(container, () => this.containers.remove(container))
    await this.#cleanUp(container, () => this.roots.release(this.roots.chainId(image), container))
    await this.published()
  }

  /**
   * The last look before a container's process starts, or before one that was created stays. If
   * this node was taken for gone, its request has been ended, and after that nothing may start. So
   * this run must have its job, the request must go on, and the node must have its place: as of a
   * moment ago, for this process may have stood still while it waited for the answers.
   */
  async #assertMayStart(root: string, context: JobContext): Promise<void> {
    for (;;) {
      const since = performance.now()
      await this.#assertUnderWay(root, context)
      if (!(await this.membership.mayWork()))
        await context.again(new StrataError('node_unavailable', `the node ${this.node} has lost its place`))
      if (performance.now() - since < FRESH_MS) return
    }
  }

  /** As the journal's. While Redis refuses to tell, the job is put back: its request goes on. */
  async #assertUnderWay(root: string, context: JobContext): Promise<void> {
    try {
      await this.queue.journal.assertUnderWay(root, context.lock)
    } catch (error) {
      if (!(error instanceof StrataError && error.code === 'queue_unavailable')) throw error
      await context.again(error)
    }
  }

  async #place(data: JobData<'place'>, context: JobContext): Promise<{ node: string }> {
    const { root } = data
    if (!context.parent) await context.progress({ state: 'active', step: 'placing' })
    if (data.purpose === 'assemble') {
      context.signal.throwIfAborted()
      const children = await this.roots.missing(root, data.image)
      const job = {
        name: 'assemble',
        queue: QUEUES.assembleOn(this.node),
        id: context.parent ? `${context.id}-on-${this.node}` : root,
        data: { root, image: data.image },
      } as const
      if (!(await this.queue.producer.has(job))) await this.queue.producer.addFlow(job, children, context.parent)
      return { node: this.node }
    }
    const { launch } = data
    const node = await this.queue.nodes.claimContainer(launch.container, this.node, context.lock)
    failpoint('launch.claimed')
    try {
      context.signal.throwIfAborted()
      if (node === this.node)
        await this.#inConfidence(launch.container, async () =>
          this.containers.claim(launch.container, { ...(await this.#claim(launch)), job: root }),
        )
      failpoint('launch.recorded')
      const job = { name: 'launch', queue: QUEUES.runtimeOn(node), id: root, data: { root, launch } } as const
      // A container that another node took before it died: that node's jobs find out themselves
      // what is there. One that was forgotten meanwhile has no jobs any more.
      if (node !== this.node && !(await this.queue.nodes.known()).includes(node)) {
        await this.queue.nodes.giveBack(launch.name, launch.container, context.lock, { placement: false })
        throw new StrataError(
          'node_unavailable',
          `the node ${node}, which had begun the launch, was removed: whether it started is not known, so it is not started elsewhere`,
        )
      }
      if (!(await this.queue.producer.has(job)))
        await this.queue.producer.addFlow(job, node === this.node ? await this.roots.missing(root, launch.image) : [])
      failpoint('launch.placed')
      return { node }
    } catch (error) {
      if (endsRunOnly(error)) throw error
      await context.assertOwned()
      if (node === this.node && !this.#recordOf(launch.container)) {
        await this.queue.nodes.giveBack(launch.name, launch.container, context.lock, { placement: true })
      }
      throw error
    }
  }

  /**
   * Work that knows what was sealed: why it fails is for the container's caller, who asks this
   * node; Redis gets the code alone.
   */
  async #inConfidence<T>(container: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (endsRunOnly(error)) throw error
      const failure = asConfidential(error)
      this.failures.note(container, failure)
      throw failure
    }
  }

  async #claim(launch: LaunchSpec): Promise<ContainerClaim> {
    const config = parseJson(
      imageConfigSchema,
      await this.blobs.read(launch.image.id, MAX_JSON_BYTES),
      `the config of ${launch.imageName}`,
      'corrupt',
    )
    // It may have been stored before there were limits.
    expectConfig(config, `the config of ${launch.imageName}`)
    const { workdir, user, hostname, network } = launch
    return {
      name: launch.name,
      image: {
        name: launch.imageName,
        id: launch.image.id,
        chainId: this.roots.chainId(launch.image),
        layers: launch.image.layers.map(({ diffId }) => diffId),
        config: config.config,
      },
      request: { workdir, user, hostname, network, ...this.sealer.open(sealedSchema, launch.sealed, launch.container) },
      autoRemove: launch.autoRemove,
      attached: launch.attach,
      ...(launch.start ? {} : { startedApart: true }),
    }
  }

  /**
   * Layers are missing, and the extractor that would make them is gone: as of now, for its jobs may
   * have been ended just before.
   */
  async #cannotMake(root: string, image: ImageRef): Promise<boolean> {
    if ((await this.roots.missing(root, image)).length === 0) return false
    await this.membership.renew()
    return !this.membership.standing.whole
  }

  #recordOf(container: string): ContainerRecord | undefined {
    return this.containers.list().find(({ id }) => id === container)
  }

  /** Its first start has ended before the process ran, and none has followed. */
  #hasOnlyFailed(container: string): boolean {
    const record = this.#recordOf(container)
    return record?.state.status === 'exited' && record.starts <= 1 && !record.idle
  }

  /**
   * Whether the request `root` has still to create or launch the container. Also true of one that
   * was removed: if that stopped its launch, the launch ends with that reason. False once it waits
   * for a start, and if a start of another request is under way with it.
   */
  #isUnderWay(root: string, container: string): boolean {
    const record = this.#recordOf(container)
    if (!record) return true
    // Records of d5153a4 name no request.
    if (record.job === undefined) return record.state.status === 'created' && !record.startedApart
    return !record.idle && pendingJob(record) === root
  }

  /**
   * Makes the root of layers that are on this node. One that was there when the job was placed, or
   * was made for it, may have gone since, by a cleaning: then it is asked for again. Not for ever:
   * a layer that is made and gone each time is a fault of the node's.
   */
  async #assembled(root: string, image: ImageRef, context: JobContext): Promise<void> {
    // A stopped request does not wait for its layers any more: they must not be asked for again.
    context.signal.throwIfAborted()
    await context.children([])
    if (await this.#cannotMake(root, image)) {
      throw new StrataError(
        'node_unavailable',
        `the node ${this.node} has no extractor running, and lacks layers of the image: start its extractor (strata extractor), then ask again`,
      )
    }
    const ask = async (): Promise<void> => {
      const missing = await this.roots.missing(root, image, `again-${context.asked}-`)
      if (missing.length > 0 && context.asked > MOST_ASKED * image.layers.length)
        throw new StrataError('layer_missing', `the layers of ${image.id} are made on ${this.node} and gone again`)
      await context.children(missing)
    }
    await ask()
    try {
      await this.roots.assemble(image, context.signal)
    } catch (error) {
      const isGone = error instanceof StrataError && (error.code === 'not_found' || error.code === 'layer_missing')
      if (!isGone) throw error
      await ask()
      throw new StrataError('layer_missing', error.message, { cause: error })
    }
  }
}

function busy(container: string): StrataError {
  return new StrataError(
    'container_running',
    `container ${container.slice(0, 12)} is busy: another request creates or launches it, or what its last run has left is still being taken down. Start it again when that has ended`,
  )
}
