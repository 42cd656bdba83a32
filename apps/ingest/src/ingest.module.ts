import { Injectable, Logger, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common'
import { Images } from '@strata/images'
import {
  jobObserver,
  loggingModule,
  Readiness,
  reportQueues,
  storeAnswers,
  storeObserver,
  type ServiceMetrics,
} from '@strata/platform'
import { QueueClient, QUEUES, type JobResult } from '@strata/queue'
import { BlobStore, openStore, Leases, type ObjectStore } from '@strata/store'
import type { IngestConfig } from './config.js'
import { Loader } from './loader.js'

/** Works the `ingest` queue from the service's start to its end. */
@Injectable()
export class IngestWorker implements OnApplicationShutdown {
  readonly #logger = new Logger('ingest')
  readonly readiness: Readiness

  constructor(
    private readonly store: ObjectStore,
    private readonly queue: QueueClient,
    config: IngestConfig,
  ) {
    const loader = new Loader(
      store,
      new BlobStore(store),
      new Leases(store),
      new Images(store),
      { maxJson: config.STRATA_MAX_JSON_BYTES, maxNames: config.STRATA_MAX_ARCHIVE_NAMES },
      config.STRATA_INDEX_MEMORY * 1024 * 1024,
    )
    this.readiness = new Readiness({ redis: () => queue.answers(), store: () => storeAnswers(store) })
    queue.serve({
      kind: 'ingest',
      queue: QUEUES.ingest,
      concurrency: config.STRATA_INGEST_CONCURRENCY,
      handlers: {
        load: async (data, context) => this.#loaded(await loader.load(data, context)),
        import: async (data, context) => this.#loaded(await loader.import(data, context)),
      },
      onError: (error) => this.#logger.warn(error.message),
    })
  }

  #loaded(result: JobResult<'load'>): JobResult<'load'> {
    for (const { id, names, layers } of result.images)
      this.#logger.log({ image: id, layers }, `loaded ${names.join(', ') || 'an image without a name'}`)
    return result
  }

  async onApplicationShutdown(): Promise<void> {
    await this.queue.close()
    await this.store.close()
  }
}

@Module({})
export class IngestModule {
  static register(config: IngestConfig, metrics: ServiceMetrics): DynamicModule {
    return {
      module: IngestModule,
      imports: [loggingModule(config.STRATA_LOG_LEVEL)],
      providers: [
        {
          provide: IngestWorker,
          useFactory: async () => {
            const warn = (message: string): void => new Logger('ingest').warn(message)
            const store = await openStore(config, warn, storeObserver(metrics))
            try {
              const queue = await QueueClient.forWork(config.STRATA_REDIS, jobObserver(metrics))
              reportQueues(metrics, () => queue.depths())
              return new IngestWorker(store, queue, config)
            } catch (error) {
              await store.close()
              throw error
            }
          },
        },
      ],
    }
  }
}
