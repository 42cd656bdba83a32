import { Inject, Injectable, Logger, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common'
import { Images } from '@strata/images'
import { loggingModule, Readiness, storeAnswers } from '@strata/platform'
import { Journal, NodeDirectory, Producer, QueueClient, Signals } from '@strata/queue'
import { OBJECT_STORE, openStore, type ObjectStore } from '@strata/store'
import { GATEWAY_CONFIG, type GatewayConfig } from './config.js'
import { ContainerDirectory } from './containers/container-directory.js'
import { ContainersController } from './containers/containers.controller.js'
import { LaunchService } from './containers/launch.service.js'
import { NodeDoors } from './containers/node-doors.js'
import { ExportController } from './files/export.controller.js'
import { FilesController } from './files/files.controller.js'
import { LayerBytes } from './files/layer-bytes.js'
import { Trees } from './files/trees.js'
import { ArchivesController } from './images/archives.controller.js'
import { ImageMounts } from './images/image-mounts.js'
import { ImagesController } from './images/images.controller.js'
import { LoadService } from './images/load.service.js'
import { Cancellation } from './jobs/cancellation.js'
import { JobsController } from './jobs/jobs.controller.js'
import { CollectionController } from './system/collection.controller.js'
import { NodesController } from './system/nodes.controller.js'
import { DiskUsage } from './system/disk-usage.js'
import { SystemController } from './system/system.controller.js'

/** Lets go of what the providers below opened. */
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
    // Redis away tells nothing about nodes.
    node: () =>
      queue.nodes.ready().then(
        (nodes) => nodes.length > 0,
        () => true,
      ),
  })
}

@Module({})
export class GatewayModule {
  static register(config: GatewayConfig): DynamicModule {
    return {
      module: GatewayModule,
      imports: [loggingModule(config.STRATA_LOG_LEVEL)],
      controllers: [
        ImagesController,
        ArchivesController,
        FilesController,
        ExportController,
        JobsController,
        ContainersController,
        SystemController,
        NodesController,
        CollectionController,
      ],
      providers: [
        { provide: GATEWAY_CONFIG, useValue: config },
        {
          provide: OBJECT_STORE,
          useFactory: () => openStore(config, (message) => new Logger('gateway').warn(message)),
        },
        { provide: QueueClient, useFactory: () => QueueClient.forRequests(config.STRATA_REDIS) },
        { provide: Signals, useFactory: (queue: QueueClient) => queue.signals, inject: [QueueClient] },
        { provide: Journal, useFactory: (queue: QueueClient) => queue.journal, inject: [QueueClient] },
        { provide: Producer, useFactory: (queue: QueueClient) => queue.producer, inject: [QueueClient] },
        { provide: NodeDirectory, useFactory: (queue: QueueClient) => queue.nodes, inject: [QueueClient] },
        { provide: Images, useFactory: (store: ObjectStore) => new Images(store), inject: [OBJECT_STORE] },
        { provide: Readiness, useFactory: readiness, inject: [QueueClient, OBJECT_STORE] },
        NodeDoors,
        ContainerDirectory,
        LaunchService,
        LoadService,
        Cancellation,
        ImageMounts,
        Trees,
        LayerBytes,
        DiskUsage,
        Closer,
      ],
    }
  }
}
