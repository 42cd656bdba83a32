import { Module, type DynamicModule } from '@nestjs/common'
import { loggingModule, type ServiceMetrics } from '@strata/platform'
import { RUNTIME_CONFIG, type RuntimeConfig } from './config.js'
import { NodeApiController } from './node-api.controller.js'
import { RuntimeNode } from './runtime-node.js'

@Module({})
export class RuntimeModule {
  static register(config: RuntimeConfig, metrics: ServiceMetrics): DynamicModule {
    return {
      module: RuntimeModule,
      imports: [loggingModule(config.STRATA_LOG_LEVEL)],
      controllers: [NodeApiController],
      providers: [
        { provide: RUNTIME_CONFIG, useValue: config },
        { provide: RuntimeNode, useFactory: () => RuntimeNode.start(config, metrics) },
      ],
    }
  }
}
