import { Injectable, Logger, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common'
import { packedLimits } from '@strata/archive'
import { LayerFolder } from '@strata/layers'
import { loggingModule, Readiness, storeAnswers } from '@strata/platform'
import { QueueClient, QUEUES, type Handlers, type ExtractRef } from '@strata/queue'
import { BlobStore, DurableFolder, openStore, type ObjectStore } from '@strata/store'
import { layersFolder, type ExtractorConfig } from './config.js'
import { LayerMaker } from './layer-maker.js'

/** Works the shared `extract` queue and this node's own. */
@Injectable()
export class ExtractorWorker implements OnApplicationShutdown {
  readonly #logger = new Logger('extractor')
  readonly #queue: QueueClient
  readonly readiness: Readiness

  constructor(
    private readonly store: ObjectStore,
    private readonly maker: LayerMaker,
    private readonly durable: DurableFolder,
    config: ExtractorConfig,
  ) {
    const node = config.STRATA_NODE
    const handlers: Handlers<'extract'> = { extract: async ({ layer }, { signal }) => ({ node, made: await this.#make(layer, signal) }) }
    this.#queue = QueueClient.forWork(config.STRATA_REDIS)
    this.readiness = new Readiness({ redis: () => this.#queue.answers(), store: () => storeAnswers(store) })
    const onError = (error: Error): void => this.#logger.warn(error.message)
    for (const queue of [QUEUES.extract, QUEUES.extractOn(node)]) this.#queue.serve({ kind: 'extract', queue, concurrency: config.STRATA_EXTRACT_CONCURRENCY, handlers, onError })
  }

  static async start(config: ExtractorConfig): Promise<ExtractorWorker> {
    const logger = new Logger('extractor')
    const store = await openStore(config, (message) => logger.warn(message))
    const layers = new LayerFolder(layersFolder(config.STRATA_NODE_FOLDER))
    const durable = new DurableFolder(layers.path, { warn: (message) => logger.warn(message) })
    await durable.recover([''], (tail) => layers.removeHolding(tail))
    return new ExtractorWorker(store, await LayerMaker.open(store, new BlobStore(store), layers, packedLimits(config)), durable, config)
  }

  async #make(layer: ExtractRef, signal: AbortSignal): Promise<boolean> {
    const made = await this.maker.ensure(layer, signal)
    if (made) this.durable.committed()
    return made
  }

  async onApplicationShutdown(): Promise<void> {
    await this.#queue.close()
    await this.maker.close()
    this.durable.close()
    await this.store.close()
  }
}

@Module({})
export class ExtractorModule {
  static register(config: ExtractorConfig): DynamicModule {
    return {
      module: ExtractorModule,
      imports: [loggingModule(config.STRATA_LOG_LEVEL)],
      providers: [{ provide: ExtractorWorker, useFactory: () => ExtractorWorker.start(config) }],
    }
  }
}
