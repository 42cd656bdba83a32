import { Injectable, Logger, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common'
import { Images } from '@strata/images'
import { asStrataError } from '@strata/base'
import {
  jobObserver,
  loggingModule,
  Readiness,
  reportQueues,
  storeAnswers,
  storeObserver,
  type ServiceMetrics,
} from '@strata/platform'
import { QueueClient, QUEUES, type JobResult, type NewJob } from '@strata/queue'
import {
  BlobStore,
  Collector,
  openStore,
  pushTimesIn,
  RemovedNodes,
  Leases,
  UsedIds,
  type ObjectStore,
} from '@strata/store'
import { Collection } from './collection.js'
import type { StorageConfig } from './config.js'
import { LostNodes } from './lost-nodes.js'
import { Reaper } from './reaper.js'

/** Of collections, which are joined (collection.ts). */
const CONCURRENCY = 64

/**
 * Works the `storage` queue, and sees to it that sweep and collection come round, once however many
 * replicas there are.
 */
@Injectable()
export class StorageWorker implements OnApplicationShutdown {
  readonly #logger = new Logger('storage')
  readonly #watch: NodeJS.Timeout
  readonly #lost: LostNodes
  readonly readiness: Readiness

  constructor(
    private readonly store: ObjectStore,
    private readonly queue: QueueClient,
    config: StorageConfig,
  ) {
    this.readiness = new Readiness({ redis: () => this.queue.answers(), store: () => storeAnswers(store) })
    const { journal, producer, nodes } = this.queue
    const reaper = new Reaper(new Leases(store), new BlobStore(store), journal, producer, nodes, {
      silenceMs: config.STRATA_UPLOAD_SILENCE_MS,
      ...pushTimesIn(config),
    })
    const images = new Images(store, { takesSparse: config.STRATA_SPARSE_IMAGES })
    const collection = new Collection(new Collector(store), images, journal, producer, nodes, (message) =>
      this.#logger.warn(message),
    )
    const onError = (error: Error): void => this.#logger.warn(error.message)
    this.#lost = new LostNodes(this.queue, new RemovedNodes(store), config.STRATA_NODE_LOST_MS, onError)
    const look = async (): Promise<JobResult<'sweep'>> => {
      this.#lost.look().catch(onError)
      return reaper.reap()
    }
    this.queue.serve({
      kind: 'storage',
      queue: QUEUES.storage,
      concurrency: 2,
      handlers: {
        sweep: look,
        'collect-due': () => collection.due(),
        'forget-node': (data) => this.#lost.forget(data),
      },
      onError,
    })
    this.queue.serve({
      kind: 'collect',
      queue: QUEUES.collect,
      concurrency: CONCURRENCY,
      handlers: { collect: (data, context) => collection.run(data, context) },
      onError,
    })
    const sweep = { name: 'sweep', queue: QUEUES.storage, id: 'sweep', data: {} } as const
    const due = { name: 'collect-due', queue: QUEUES.storage, id: 'collect-due', data: {} } as const
    const schedules: (readonly [NewJob<'sweep' | 'collect-due'>, number])[] = [[sweep, config.STRATA_SWEEP_INTERVAL_MS]]
    if (config.STRATA_GC_INTERVAL > 0) schedules.push([due, config.STRATA_GC_INTERVAL])
    else producer.unschedule(due).catch(onError)
    for (const [job, milliseconds] of schedules) producer.schedule(job, milliseconds).catch(onError)
    this.#watch = setInterval(() => {
      for (const schedule of schedules) void this.#keepScheduled(...schedule).catch(onError)
    }, config.STRATA_SWEEP_INTERVAL_MS)
  }

  /**
   * A Redis that comes back empty has lost the schedules, and with them the sweeps that make up for
   * what else it has lost.
   */
  async #keepScheduled(job: NewJob<'sweep' | 'collect-due'>, milliseconds: number): Promise<void> {
    if (!(await this.queue.answers()) || (await this.queue.producer.isScheduled(job))) return
    await this.queue.producer.schedule(job, milliseconds)
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.#watch)
    await this.#lost.close()
    await this.queue.close()
    await this.store.close()
  }
}

@Module({})
export class StorageModule {
  static register(config: StorageConfig, metrics: ServiceMetrics): DynamicModule {
    return {
      module: StorageModule,
      imports: [loggingModule(config.STRATA_LOG_LEVEL)],
      providers: [
        {
          provide: StorageWorker,
          useFactory: async () => {
            const warn = (message: string): void => new Logger('storage').warn(message)
            const store = await openStore(config, warn, storeObserver(metrics))
            // Before this service is ready: until then each load lists what its id has brought, and
            // each look-up of an image lists all names.
            const markAll = async () => {
              await new UsedIds(store).markAll()
              await new Images(store, { takesSparse: config.STRATA_SPARSE_IMAGES }).markNames()
            }
            await markAll().catch((error: unknown) => {
              // A collection makes room; the next start marks them.
              if (asStrataError(error).code !== 'storage_full') throw error
            })
            try {
              const queue = await QueueClient.forWork(config.STRATA_REDIS, jobObserver(metrics))
              reportQueues(metrics, () => queue.depths())
              return new StorageWorker(store, queue, config)
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
