import { Inject, Injectable, Logger, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common'
import { Images, Repositories } from '@strata/images'
import { Readiness, reportQueues, storeAnswers, storeObserver, type ServiceMetrics } from '@strata/platform'
import { Journal, NodeDirectory, Producer, QueueClient, SHARED_QUEUES, Signals } from '@strata/queue'
import { OBJECT_STORE, openPublicReads, openStore, type ObjectStore } from '@strata/store'
import { GATEWAY_CONFIG, METRICS, type GatewayConfig } from './config.js'
import { ContainerDirectory } from './containers/container-directory.js'
import { ContainersService } from './containers/containers.service.js'
import { LaunchService } from './containers/launch.service.js'
import { NodeApiClient } from './containers/node-api-client.js'
import { FilesService } from './files/files.service.js'
import { ImageMounts } from './images/image-mounts.js'
import { ImagesService } from './images/images.service.js'
import { LoadService } from './images/load.service.js'
import { PullService } from './images/pull.service.js'
import { Cancellation } from './jobs/cancellation.js'
import { Requests } from './jobs/requests.js'
import { PushService } from './registry/push.service.js'
import { PushedLayers } from './registry/pushed-layers.js'
import { PUBLIC_READS, RegistryService } from './registry/registry.service.js'
import { CollectionService } from './system/collection.service.js'
import { DiskUsageService } from './system/disk-usage.service.js'
import { NodesService } from './system/nodes.service.js'
import { SystemService } from './system/system.service.js'

/** Closes what the providers below opened. */
@Injectable()
class Closer implements OnApplicationShutdown {
  constructor(
    private readonly queue: QueueClient,
    @Inject(OBJECT_STORE) private readonly store: ObjectStore,
  ) {}

  async onApplicationShutdown(): Promise<void> {
    await this.queue.close()
    await this.store.close()
  }
}

function readiness(queue: QueueClient, store: ObjectStore): Readiness {
  return new Readiness({
    redis: () => queue.answers(),
    store: () => storeAnswers(store),
    // If Redis does not answer, nothing is known about nodes.
    node: () =>
      queue.nodes.ready().then(
        (nodes) => nodes.length > 0,
        () => true,
      ),
  })
}

/**
 * The gateway tells of all queues but those of nodes: also of one that nobody works, because its
 * service is down.
 */
async function openQueue(config: GatewayConfig, metrics: ServiceMetrics): Promise<QueueClient> {
  const queue = await QueueClient.forRequests(config.STRATA_REDIS)
  reportQueues(metrics, () => queue.depths(SHARED_QUEUES))
  return queue
}

/** The services that the controllers of any API may call. */
const SERVICES = [
  ImagesService,
  FilesService,
  ContainersService,
  Requests,
  CollectionService,
  DiskUsageService,
  NodesService,
  SystemService,
  RegistryService,
  PushService,
  Readiness,
]

/**
 * The gateway's services, by noun. They throw `StrataError` and answer with the shapes of
 * `@strata/api`. An API is a module of controllers over them: `/v1` (gateway.module.ts), and others
 * beside it.
 */
@Module({})
export class ServicesModule {
  static register(config: GatewayConfig, metrics: ServiceMetrics): DynamicModule {
    return {
      module: ServicesModule,
      providers: [
        { provide: GATEWAY_CONFIG, useValue: config },
        { provide: METRICS, useValue: metrics },
        {
          provide: OBJECT_STORE,
          useFactory: () => openStore(config, (message) => new Logger('gateway').warn(message), storeObserver(metrics)),
        },
        { provide: PUBLIC_READS, useFactory: () => openPublicReads(config) },
        { provide: QueueClient, useFactory: () => openQueue(config, metrics) },
        { provide: Signals, useFactory: (queue: QueueClient) => queue.signals, inject: [QueueClient] },
        { provide: Journal, useFactory: (queue: QueueClient) => queue.journal, inject: [QueueClient] },
        { provide: Producer, useFactory: (queue: QueueClient) => queue.producer, inject: [QueueClient] },
        { provide: NodeDirectory, useFactory: (queue: QueueClient) => queue.nodes, inject: [QueueClient] },
        {
          provide: Images,
          useFactory: (store: ObjectStore) => new Images(store, { takesSparse: config.STRATA_SPARSE_IMAGES }),
          inject: [OBJECT_STORE],
        },
        {
          provide: Repositories,
          useFactory: (store: ObjectStore) => new Repositories(store, { takesSparse: config.STRATA_SPARSE_IMAGES }),
          inject: [OBJECT_STORE],
        },
        { provide: Readiness, useFactory: readiness, inject: [QueueClient, OBJECT_STORE] },
        NodeApiClient,
        ContainerDirectory,
        ContainersService,
        LaunchService,
        LoadService,
        PullService,
        Cancellation,
        Requests,
        ImagesService,
        ImageMounts,
        FilesService,
        RegistryService,
        PushedLayers,
        PushService,
        CollectionService,
        DiskUsageService,
        NodesService,
        SystemService,
        Closer,
      ],
      exports: [...SERVICES, GATEWAY_CONFIG, METRICS],
    }
  }
}
