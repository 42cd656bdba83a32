import { Injectable, Logger, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common'
import { Slots, Turns } from '@strata/base'
import { Images, Repositories } from '@strata/images'
import {
  jobObserver,
  loggingModule,
  Readiness,
  readSecretFile,
  reportQueues,
  storeAnswers,
  storeObserver,
  type ServiceMetrics,
} from '@strata/platform'
import { QueueClient, QUEUES, Sealer, type JobResult } from '@strata/queue'
import { HostsConfiguration, RemoteRegistries } from '@strata/remote'
import { BlobStore, Leases, openStore, pushTimesIn, Uploads, type ObjectStore } from '@strata/store'
import type { IngestConfig } from './config.js'
import { ImageLayers } from './image-layers.js'
import { Loader } from './loader.js'
import { Puller } from './pull/puller.js'

/** Blobs that come from other registries at the same time, of all pulls. */
const BLOBS_AT_ONCE = 8
/** Where hosts are configured, as containerd and docker do. */
const HOSTS_FOLDERS = ['/etc/containerd/certs.d', '/etc/docker/certs.d']

/** Works the queues `ingest` and `pull` from the service's start to its end. */
@Injectable()
export class IngestWorker implements OnApplicationShutdown {
  readonly #logger = new Logger('ingest')
  readonly readiness: Readiness
  readonly #registries: RemoteRegistries
  readonly #puller: Puller

  constructor(
    private readonly store: ObjectStore,
    private readonly queue: QueueClient,
    config: IngestConfig,
  ) {
    const parts = { blobs: new BlobStore(store), leases: new Leases(store), images: new Images(store) }
    const layers = new ImageLayers(store, parts.blobs, config.STRATA_INDEX_MEMORY * 1024 * 1024)
    const limits = { maxJson: config.STRATA_MAX_JSON_BYTES, maxNames: config.STRATA_MAX_ARCHIVE_NAMES }
    const loader = new Loader(store, parts.blobs, parts.leases, parts.images, limits, layers)
    this.#registries = new RemoteRegistries({ hosts: new HostsConfiguration({ folders: HOSTS_FOLDERS }) })
    const repositories = new Repositories(store)
    this.#puller = new Puller({
      ...parts,
      layers,
      repositories,
      uploads: new Uploads(store, repositories.blobs, {
        bytes: config.STRATA_MAX_BLOB_BYTES,
        ...pushTimesIn(config),
      }),
      registries: this.#registries,
      sealer: sealerOf(config),
      slots: new Slots(BLOBS_AT_ONCE),
      turns: new Turns(),
      maxBlobBytes: config.STRATA_MAX_BLOB_BYTES,
    })
    this.readiness = new Readiness({ redis: () => queue.answers(), store: () => storeAnswers(store) })
    const onError = (error: Error): void => this.#logger.warn(error.message)
    queue.serve({
      kind: 'ingest',
      queue: QUEUES.ingest,
      concurrency: config.STRATA_INGEST_CONCURRENCY,
      handlers: {
        load: async (data, context) => this.#loaded(await loader.load(data, context)),
        import: async (data, context) => this.#loaded(await loader.import(data, context)),
      },
      onError,
    })
    queue.serve({
      kind: 'pull',
      queue: QUEUES.pull,
      concurrency: config.STRATA_PULL_CONCURRENCY,
      handlers: { pull: async (data, context) => this.#pulled(await this.#puller.pull(data, context)) },
      onError,
    })
  }

  #loaded(result: JobResult<'load'>): JobResult<'load'> {
    for (const { id, names, layers } of result.images)
      this.#logger.log({ image: id, layers }, `loaded ${names.join(', ') || 'an image without a name'}`)
    return result
  }

  #pulled(result: JobResult<'pull'>): JobResult<'pull'> {
    if (result.pulled) this.#logger.log({ digest: result.pulled.digest }, `pulled ${result.pulled.name}`)
    return result
  }

  async onApplicationShutdown(): Promise<void> {
    const closed = this.queue.close()
    this.#puller.stop()
    await closed
    await this.#registries.close()
    await this.store.close()
  }
}

function sealerOf({ STRATA_NODE_SECRET_FILE: file }: IngestConfig): Sealer | undefined {
  return file === undefined ? undefined : new Sealer(Buffer.from(readSecretFile(file, 'STRATA_NODE_SECRET_FILE')))
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
