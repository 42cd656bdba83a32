import { Inject, Injectable, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common'
import { APP_GUARD } from '@nestjs/core'
import { Images } from '@strata/images'
import { loggingModule } from '@strata/platform'
import { Journal, NodeDirectory, Producer, producerConnection, Signals } from '@strata/queue'
import { FolderStore } from '@strata/store'
import { GATEWAY_CONFIG, type GatewayConfig } from './config.js'
import { ContainerDirectory } from './containers/container-directory.js'
import { ContainersController } from './containers/containers.controller.js'
import { LaunchService } from './containers/launch.service.js'
import { NodeDoors } from './containers/node-doors.js'
import { ImageMounts } from './images/image-mounts.js'
import { ImagesController } from './images/images.controller.js'
import { LoadService } from './images/load.service.js'
import { JobsController } from './jobs/jobs.controller.js'
import { SystemController } from './system/system.controller.js'
import { TokenGuard } from './token-guard.js'

const REDIS = Symbol('redis')
type RedisClient = ReturnType<typeof producerConnection>

/** Lets go of what the providers below opened. */
@Injectable()
class Closer implements OnApplicationShutdown {
  constructor(
    @Inject(REDIS) private readonly redis: RedisClient,
    private readonly signals: Signals,
    private readonly producer: Producer,
    @Inject(FolderStore) private readonly store: FolderStore,
  ) {}

  async onApplicationShutdown(): Promise<void> {
    await this.producer.close()
    this.signals.close()
    this.redis.disconnect()
    await this.store.close()
  }
}

@Module({})
export class GatewayModule {
  static register(config: GatewayConfig): DynamicModule {
    return {
      module: GatewayModule,
      imports: [loggingModule(config.STRATA_LOG_LEVEL)],
      controllers: [ImagesController, JobsController, ContainersController, SystemController],
      providers: [
        { provide: GATEWAY_CONFIG, useValue: config },
        { provide: REDIS, useFactory: () => producerConnection(config.STRATA_REDIS) },
        { provide: FolderStore, useFactory: () => FolderStore.open(config.STRATA_STORE) },
        { provide: Signals, useFactory: () => new Signals(config.STRATA_REDIS) },
        { provide: Journal, useFactory: (redis: RedisClient, signals: Signals) => new Journal(redis, signals), inject: [REDIS, Signals] },
        { provide: Producer, useFactory: (redis: RedisClient) => new Producer(redis), inject: [REDIS] },
        { provide: NodeDirectory, useFactory: (redis: RedisClient) => new NodeDirectory(redis), inject: [REDIS] },
        { provide: Images, useFactory: (store: FolderStore) => new Images(store), inject: [FolderStore] },
        { provide: APP_GUARD, useClass: TokenGuard },
        NodeDoors,
        ContainerDirectory,
        LaunchService,
        LoadService,
        ImageMounts,
        Closer,
      ],
    }
  }
}
