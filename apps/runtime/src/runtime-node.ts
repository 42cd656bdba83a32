import { rmdirSync } from 'node:fs'
import { hostname, release } from 'node:os'
import { join } from 'node:path'
import { Logger } from '@nestjs/common'
import {
  firstPage,
  isListed,
  type ContainerView,
  type ListContainers,
  type NodeUsage,
  type Page,
  type PrunedContainer,
} from '@strata/api'
import { Containers, type ContainerRecord } from '@strata/containers'
import { Images } from '@strata/images'
import { IndexMemory, LayerFolder, migrateNode } from '@strata/layers'
import { bootId, FolderVersion, ownFolder } from '@strata/linux'
import { StrataError, toldToCaller, type ToldError } from '@strata/base'
import {
  jobObserver,
  Readiness,
  readSecretFile,
  reportQueues,
  storeAnswers,
  storeObserver,
  type ServiceMetrics,
} from '@strata/platform'
import { joinNode, QUEUES, Sealer, type NodeMembership, type QueueClient } from '@strata/queue'
import { createSnapshotter, type Snapshotter } from '@strata/snapshots'
import { BlobStore, openStore, RemovedNodes, type DurableFolder, type ObjectStore } from '@strata/store'
import type { RuntimeConfig } from './config.js'
import { containerView } from './container-view.js'
import { ContainerRequests } from './container-requests.js'
import { SnapshotRoots } from './container-roots.js'
import { openDurableRoots } from './durable-roots.js'
import { driverReason } from './driver-reason.js'
import { ImageMounts } from './image-mounts.js'
import { ImageRoots } from './image-roots.js'
import { LaunchFailures } from './launch-failures.js'
import { NodeCleaner } from './node-cleaner.js'
import { NodeJobs } from './node-jobs.js'
import { nodeUsage } from './node-usage.js'
import { PrivateMounts } from './private-mounts.js'
import { prune } from './prune.js'
import { Publisher } from './publisher.js'

/**
 * One node's roots, mounts and containers. `start` brings disk, runtime and kernel into agreement
 * before a job is taken; `close` takes no more jobs and lets go of everything: containers, and the
 * mounts they need, stay.
 */
export class RuntimeNode {
  readonly #logger = new Logger('runtime')
  readonly cleaner: NodeCleaner
  readonly requests: ContainerRequests
  readonly #failures = new LaunchFailures()
  #publisher: Publisher | undefined
  readonly readiness = new Readiness({
    redis: () => this.queue.answers(),
    store: () => storeAnswers(this.store),
    place: () => Promise.resolve(this.membership.standing.member),
  })

  private constructor(
    private readonly config: RuntimeConfig,
    private readonly store: ObjectStore,
    private readonly snapshots: Snapshotter,
    private readonly driverReason: string,
    readonly containers: Containers,
    readonly mounts: ImageMounts,
    private readonly queue: QueueClient,
    private readonly membership: NodeMembership,
    private readonly layers: LayerFolder,
    private readonly durable: DurableFolder,
    private readonly privateMounts: PrivateMounts,
  ) {
    this.cleaner = new NodeCleaner(snapshots, layers, containers, new Images(store), store)
    this.requests = new ContainerRequests(queue.journal, containers)
  }

  static async start(config: RuntimeConfig, metrics: ServiceMetrics): Promise<RuntimeNode> {
    if (process.getuid?.() !== 0)
      throw new StrataError('driver_unavailable', 'a node mounts file systems and runs containers: start it as root')
    const logger = new Logger('runtime')
    const warn = (message: string): void => logger.warn(message)
    const store = await openStore(config, warn, storeObserver(metrics))
    const removed = new RemovedNodes(store)
    try {
      const folder = config.STRATA_NODE_FOLDER
      await migrateNode(new FolderVersion('the node folder', folder), folder, warn)
      const observer = jobObserver(metrics)
      const options = { config, part: 'runtime', boot: bootId(), removed, warn, observer } as const
      return await joinNode(options, (queue, membership) => {
        reportQueues(metrics, () => queue.depths())
        return RuntimeNode.#open(config, store, queue, membership, warn)
      })
    } catch (error) {
      await store.close()
      throw error
    }
  }

  static async #open(
    config: RuntimeConfig,
    store: ObjectStore,
    queue: QueueClient,
    membership: NodeMembership,
    warn: (message: string) => void,
  ): Promise<RuntimeNode> {
    const folder = config.STRATA_NODE_FOLDER
    ownFolder(folder)
    const mounts = new PrivateMounts(folder)
    try {
      const layers = new LayerFolder(join(folder, 'layers'))
      const durable = await openDurableRoots(join(folder, 'snapshots'), layers, warn)
      const wanted = { driver: config.STRATA_SNAPSHOTTER, variants: { erofs: config.STRATA_EROFS } }
      const memory = IndexMemory.ofProcess(config.STRATA_INDEX_MEMORY)
      const created = await createSnapshotter({ ...wanted, folder: join(folder, 'snapshots'), memory, warn })
      const snapshots = created.snapshotter
      const containers = await Containers.open({
        node: config.STRATA_NODE,
        folder: join(folder, 'containers'),
        runFolder: config.STRATA_RUN_FOLDER,
        roots: new SnapshotRoots(snapshots, join(folder, 'roots')),
        warn,
      })
      for (const warning of containers.runtime.warnings) warn(warning)
      return new RuntimeNode(
        config,
        store,
        snapshots,
        driverReason(wanted, created),
        containers,
        new ImageMounts(snapshots, join(folder, 'mounts')),
        queue,
        membership,
        layers,
        durable,
        mounts,
      )
    } catch (error) {
      mounts[Symbol.dispose]()
      throw error
    }
  }

  /** Publishes the node with the address of its node API, and takes jobs. */
  async serve(address: string): Promise<void> {
    const { STRATA_NODE: id } = this.config
    const sealer = new Sealer(
      Buffer.from(readSecretFile(this.config.STRATA_NODE_SECRET_FILE, 'STRATA_NODE_SECRET_FILE')),
    )
    const roots = new ImageRoots(this.snapshots, this.layers, id, () => this.durable.committed())
    const jobs = new NodeJobs(
      id,
      this.queue,
      roots,
      this.containers,
      new Images(this.store),
      new BlobStore(this.store),
      sealer,
      this.cleaner,
      this.#failures,
      this.membership,
      () => this.published(),
    )
    const warn = (message: string): void => this.#logger.warn(message)
    await this.membership.show({
      id,
      door: address,
      host: hostname(),
      driver: this.snapshots.name,
      driverReason: this.driverReason,
      runtime: this.containers.runtime.version,
      kernel: release(),
      warnings: [...this.containers.runtime.warnings],
    })
    this.#publisher = new Publisher(this.queue.nodes, this.queue.journal, id, this.membership, this.containers, warn)
    const { membership } = this
    const onError = (error: Error): void => warn(error.message)
    const worker = { concurrency: this.config.STRATA_LAUNCH_CONCURRENCY, paused: true, onError }
    // A request that nobody has yet is for a node that can do all of it.
    const shared = this.queue.serve({
      ...worker,
      kind: 'runtime',
      queue: QUEUES.runtime,
      handlers: jobs.shared,
      mayWork: () => membership.mayPlace(),
    })
    const own = this.queue.serve({
      ...worker,
      kind: 'runtime.node',
      queue: QUEUES.runtimeOn(id),
      handlers: jobs.own,
      mayWork: () => membership.mayWork(),
    })
    const assemblies = this.queue.serve({
      ...worker,
      concurrency: this.config.STRATA_ASSEMBLE_CONCURRENCY,
      kind: 'assemble.node',
      queue: QUEUES.assembleOn(id),
      handlers: jobs.assemblies,
      mayWork: () => membership.mayWork(),
    })
    membership.onRenewal(({ member, whole }) => {
      const turn = (one: { resume(): Promise<void>; pause(): Promise<void> }, on: boolean): void => {
        ;(on ? one.resume() : one.pause()).catch((error: unknown) => warn(String(error)))
      }
      turn(own, member)
      turn(assemblies, member)
      turn(shared, member && whole)
    })
  }

  view(record: ContainerRecord): ContainerView {
    return containerView(
      record,
      this.config.STRATA_NODE,
      this.#publisher ? this.#publisher.nameOf(record) : record.name,
    )
  }

  /** A page of this node's containers, in the order of their ids. */
  list({ all, limit, after = '' }: ListContainers): Promise<Page<ContainerView>> {
    const behind = this.containers.list().filter(({ id }) => id > after)
    const views = behind
      .sort((a, b) => (a.id < b.id ? -1 : 1))
      .values()
      .map((record) => this.view(record))
    return firstPage(
      views.filter((view) => all || isListed(view)),
      limit,
      ({ id }) => id,
    )
  }

  /**
   * Why the container was not launched; `not_found` if this node does not know of a launch that
   * failed.
   */
  launchFailure(container: string): ToldError {
    const noted = this.#failures.of(container)
    if (noted) return noted
    const state = this.containers.list().find(({ id }) => id === container)?.state
    if (state?.status === 'exited' && state.error !== undefined)
      return toldToCaller({ code: state.error, message: state.reason ?? '' })
    throw new StrataError('not_found', `no launch of container ${container.slice(0, 12)} failed here`)
  }

  usage(): Promise<NodeUsage> {
    return nodeUsage(this.snapshots, this.layers, this.containers)
  }

  /**
   * Removes the containers that have ended and that nobody waits for, and those that wait for a
   * start (`Containers.isPrunable`), or only tells which. One whose start was asked for stays.
   */
  async prune(dryRun: boolean): Promise<PrunedContainer[]> {
    const isAwaited = async (id: string): Promise<boolean> => (await this.requests.startsOf(id)).size > 0
    const pruned = await prune(this.containers, this.snapshots, isAwaited, dryRun, this.#logger)
    await this.#shown()
    return pruned
  }

  /** Every start of it that was asked for before and has no process yet is ended as well. */
  async stop(id: string, options: { timeoutSeconds?: number }): Promise<void> {
    if (this.containers.get(id).state.status !== 'running') await this.requests.endStarts(id)
    await this.containers.stop(id, options)
    await this.#shown()
  }

  /**
   * A launch or a start of it that is under way ends as well, if its process does not run yet. What
   * is removed is removed: without Redis its requests are ended when Redis is back.
   */
  async remove(id: string, options: { force: boolean }): Promise<void> {
    const name = this.containers.list().find((one) => one.id === id)?.name
    const why = new StrataError('cancelled', 'its container was removed')
    await this.requests.stopPending(id, why)
    await this.containers.remove(id, options)
    // Not before: what was too late to be ended runs.
    this.#publisher?.endRequests(id, () => this.requests.endAll(id, why))
    this.#logger.log({ container: id }, `removed the container ${name ?? id.slice(0, 12)}`)
    await this.#shown()
  }

  /** What has happened so far can be seen through any gateway. */
  async published(): Promise<void> {
    await this.#publisher?.settled()
  }

  /** The same for an answer, which Redis cannot hold up for long: what it says has happened. */
  async #shown(): Promise<void> {
    await this.#publisher?.shown()
  }

  async close(): Promise<void> {
    try {
      await this.#publisher?.close()
      await this.membership.leave()
      await this.queue.close()
      await this.containers.close()
      await this.snapshots.releaseRoots()
      await this.snapshots.close()
      this.durable.close()
      await this.store.close()
    } finally {
      this.#tidy()
    }
  }

  /**
   * Outside the data folder nothing stays, unless a container needs it: the next start makes it
   * again.
   */
  #tidy(): void {
    this.privateMounts[Symbol.dispose]()
    const { STRATA_RUN_FOLDER: run } = this.config
    for (const name of ['bundles', 'runc', '']) {
      try {
        rmdirSync(join(run, name))
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        // Not made, or in use: by a container, or by another service of this node.
        if (code !== 'ENOENT' && code !== 'ENOTEMPTY') throw error
      }
    }
  }
}
