import { Injectable, Logger, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common'
import { packedLimits } from '@strata/archive'
import { IndexMemory, LayerFolder, migrateNode } from '@strata/layers'
import { bootId, FolderVersion } from '@strata/linux'
import { asStrataError } from '@strata/base'
import {
  cacheObserver,
  jobObserver,
  loggingModule,
  Readiness,
  reportQueues,
  storeAnswers,
  storeObserver,
  type ServiceMetrics,
} from '@strata/platform'
import { joinNode, QUEUES, type ExtractRef, type Handlers, type NodeMembership, type QueueClient } from '@strata/queue'
import { BlobStore, DurableFolder, openStore, RemovedNodes, type ObjectStore } from '@strata/store'
import { layersFolder, type ExtractorConfig } from './config.js'
import { LayerMaker } from './layer-maker.js'
import { InflateThreads } from './thread-pool.js'

/** Works the shared `extract` queue and this node's own, as long as this node has its place. */
@Injectable()
export class ExtractorWorker implements OnApplicationShutdown {
  readonly #logger = new Logger('extractor')
  readonly #isHere: (isHit: boolean) => void
  readonly readiness: Readiness

  constructor(
    private readonly store: ObjectStore,
    private readonly maker: LayerMaker,
    private readonly durable: DurableFolder,
    private readonly queue: QueueClient,
    private readonly membership: NodeMembership,
    config: ExtractorConfig,
    metrics: ServiceMetrics,
  ) {
    this.#isHere = cacheObserver(metrics, 'layers')
    reportQueues(metrics, () => queue.depths())
    const node = config.STRATA_NODE
    const handlers: Handlers<'extract'> = {
      extract: async ({ layer }, { signal }) => ({ node, made: await this.#make(layer, signal) }),
    }
    this.readiness = new Readiness({
      redis: () => queue.answers(),
      store: () => storeAnswers(store),
      place: () => Promise.resolve(membership.standing.member),
    })
    const onError = (error: unknown): void => this.#logger.warn(asStrataError(error).message)
    const workers = [QUEUES.extract, QUEUES.extractOn(node)].map((name) =>
      queue.serve({
        kind: 'extract',
        queue: name,
        concurrency: config.STRATA_EXTRACT_CONCURRENCY,
        handlers,
        mayWork: () => membership.mayWork(),
        paused: true,
        onError,
      }),
    )
    membership.onRenewal(({ member }) => {
      for (const worker of workers) (member ? worker.resume() : worker.pause()).catch(onError)
    })
  }

  static async start(config: ExtractorConfig, metrics: ServiceMetrics): Promise<ExtractorWorker> {
    const logger = new Logger('extractor')
    const warn = (message: string): void => logger.warn(message)
    const store = await openStore(config, warn, storeObserver(metrics))
    const removed = new RemovedNodes(store)
    try {
      const folder = config.STRATA_NODE_FOLDER
      await migrateNode(new FolderVersion('the node folder', folder), folder, warn)
      const observer = jobObserver(metrics)
      const options = { config, part: 'extractor', boot: bootId(), removed, warn, observer } as const
      return await joinNode(options, async (queue, membership) => {
        const layers = new LayerFolder(layersFolder(config.STRATA_NODE_FOLDER))
        const durable = new DurableFolder(layers.path, { warn })
        await durable.recover([''], (tail) => layers.removeHolding(tail))
        const memory = IndexMemory.ofProcess(config.STRATA_INDEX_MEMORY)
        // As many as there are jobs: each of the two queues has so many.
        const threads = new InflateThreads(2 * config.STRATA_EXTRACT_CONCURRENCY)
        const maker = await LayerMaker.open(store, new BlobStore(store), layers, packedLimits(config), memory, threads)
        await membership.show(undefined)
        return new ExtractorWorker(store, maker, durable, queue, membership, config, metrics)
      })
    } catch (error) {
      await store.close()
      throw error
    }
  }

  async #make(layer: ExtractRef, signal: AbortSignal): Promise<boolean> {
    const made = await this.maker.ensure(layer, signal)
    this.#isHere(!made)
    if (made) this.durable.committed()
    return made
  }

  async onApplicationShutdown(): Promise<void> {
    await this.membership.leave()
    await this.queue.close()
    await this.maker.close()
    this.durable.close()
    await this.store.close()
  }
}

@Module({})
export class ExtractorModule {
  static register(config: ExtractorConfig, metrics: ServiceMetrics): DynamicModule {
    return {
      module: ExtractorModule,
      imports: [loggingModule(config.STRATA_LOG_LEVEL)],
      providers: [{ provide: ExtractorWorker, useFactory: () => ExtractorWorker.start(config, metrics) }],
    }
  }
}
