import { Injectable, Logger, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common'
import { Images } from '@strata/images'
import { loggingModule, Readiness, storeAnswers } from '@strata/platform'
import { QueueClient, QUEUES } from '@strata/queue'
import { BlobStore, Collector, openStore, Uploads, type ObjectStore } from '@strata/store'
import { Collection } from './collection.js'
import type { StorageConfig } from './config.js'
import { RequestKeeper } from './request-keeper.js'

/** Of collections, which are joined (collection.ts). */
const CONCURRENCY = 64

/** Works the `storage` queue, and sees to it that sweep and collection come round, once however many replicas there are. */
@Injectable()
export class StorageWorker implements OnApplicationShutdown {
  readonly #logger = new Logger('storage')
  readonly #queue: QueueClient
  readonly readiness: Readiness

  constructor(
    private readonly store: ObjectStore,
    config: StorageConfig,
  ) {
    this.#queue = QueueClient.forWork(config.STRATA_REDIS)
    this.readiness = new Readiness({ redis: () => this.#queue.answers(), store: () => storeAnswers(store) })
    const { journal, producer, nodes } = this.#queue
    const keeper = new RequestKeeper(new Uploads(store), new BlobStore(store), journal, producer, nodes, config.STRATA_UPLOAD_SILENCE_MS)
    const collection = new Collection(new Collector(store), new Images(store), journal, producer, nodes)
    const onError = (error: Error): void => this.#logger.warn(error.message)
    this.#queue.serve({ kind: 'storage', queue: QUEUES.storage, concurrency: 2, handlers: { sweep: () => keeper.sweep(), 'collect-due': () => collection.due() }, onError })
    this.#queue.serve({ kind: 'collect', queue: QUEUES.collect, concurrency: CONCURRENCY, handlers: { collect: (data, context) => collection.run(data, context) }, onError })
    this.#queue.producer.schedule({ name: 'sweep', queue: QUEUES.storage, id: 'sweep', data: {} }, config.STRATA_SWEEP_INTERVAL_MS).catch(onError)
    this.#scheduleCollection(config.STRATA_GC_INTERVAL).catch(onError)
  }

  async #scheduleCollection(milliseconds: number): Promise<void> {
    const due = { name: 'collect-due', queue: QUEUES.storage, id: 'collect-due', data: {} } as const
    if (milliseconds > 0) await this.#queue.producer.schedule(due, milliseconds)
    else await this.#queue.producer.unschedule(due)
  }

  async onApplicationShutdown(): Promise<void> {
    await this.#queue.close()
    await this.store.close()
  }
}

@Module({})
export class StorageModule {
  static register(config: StorageConfig): DynamicModule {
    return {
      module: StorageModule,
      imports: [loggingModule(config.STRATA_LOG_LEVEL)],
      providers: [{ provide: StorageWorker, useFactory: async () => new StorageWorker(await openStore(config, (message) => new Logger('storage').warn(message)), config) }],
    }
  }
}
