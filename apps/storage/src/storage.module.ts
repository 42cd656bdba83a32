import { Injectable, Logger, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common'
import { loggingModule, Readiness, storeAnswers } from '@strata/platform'
import { QueueClient, QUEUES } from '@strata/queue'
import { BlobStore, openStore, Uploads, type ObjectStore } from '@strata/store'
import type { StorageConfig } from './config.js'
import { UploadKeeper } from './upload-keeper.js'

/** Works the `storage` queue, and sees to it that the sweep comes round, once however many replicas there are. */
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
    const keeper = new UploadKeeper(new Uploads(store), new BlobStore(store), this.#queue.journal, this.#queue.producer, config.STRATA_UPLOAD_SILENCE_MS)
    const onError = (error: Error): void => this.#logger.warn(error.message)
    this.#queue.serve({ kind: 'storage', queue: QUEUES.storage, concurrency: 1, handlers: { sweep: () => keeper.sweep() }, onError })
    this.#queue.producer.schedule({ name: 'sweep', queue: QUEUES.storage, id: 'sweep', data: {} }, config.STRATA_SWEEP_INTERVAL_MS).catch(onError)
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
      providers: [{ provide: StorageWorker, useFactory: async () => new StorageWorker(await openStore(config), config) }],
    }
  }
}
