import { Module, type DynamicModule } from '@nestjs/common'
import { loggingModule, type ServiceMetrics } from '@strata/platform'
import type { GatewayConfig } from './config.js'
import { ContainersController } from './containers/containers.controller.js'
import { FilesController } from './files/files.controller.js'
import { ImagesController } from './images/images.controller.js'
import { JobsController } from './jobs/jobs.controller.js'
import { RepositoriesController } from './registry/repositories.controller.js'
import { ServicesModule } from './services.module.js'
import { CollectionController } from './system/collection.controller.js'
import { NodesController } from './system/nodes.controller.js'
import { SystemController } from './system/system.controller.js'

/**
 * The `/v1` API. Its controllers parse requests and answer, and the services do the work. Another
 * API imports this module and gets the same services.
 */
@Module({})
export class GatewayModule {
  static register(config: GatewayConfig, metrics: ServiceMetrics): DynamicModule {
    return {
      module: GatewayModule,
      imports: [loggingModule(config.STRATA_LOG_LEVEL), ServicesModule.register(config, metrics)],
      controllers: [
        ImagesController,
        FilesController,
        RepositoriesController,
        JobsController,
        ContainersController,
        SystemController,
        NodesController,
        CollectionController,
      ],
      exports: [ServicesModule],
    }
  }
}
