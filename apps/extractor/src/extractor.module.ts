import { Injectable, Logger, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common'
import { LayerFolder } from '@strata/layers'
import { loggingModule, Readiness, storeAnswers } from '@strata/platform'
import { QueueClient, QUEUES, type Handlers } from '@strata/queue'
import { BlobStore, openStore, type ObjectStore } from '@strata/store'
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
    config: ExtractorConfig,
  ) {
    const node = config.STRATA_NODE
    const handlers: Handlers<'extract'> = { extract: async ({ layer }, { signal }) => ({ node, made: await maker.ensure(layer, signal) }) }
    this.#queue = QueueClient.forWork(config.STRATA_REDIS)
    this.readiness = new Readiness({ redis: () => this.#queue.answers(), store: () => storeAnswers(store) })
    const onError = (error: Error): void => this.#logger.warn(error.message)
    for (const queue of [QUEUES.extract, QUEUES.extractOn(node)]) this.#queue.serve({ kind: 'extract', queue, concurrency: config.STRATA_EXTRACT_CONCURRENCY, handlers, onError })
  }

  static async start(config: ExtractorConfig): Promise<ExtractorWorker> {
    const store = await openStore(config)
    const maker = await LayerMaker.open(store, new BlobStore(store), new LayerFolder(layersFolder(config.STRATA_NODE_FOLDER)))
    return new ExtractorWorker(store, maker, config)
  }

  async onApplicationShutdown(): Promise<void> {
    await this.#queue.close()
    await this.maker.close()
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
