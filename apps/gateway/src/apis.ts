import { Module, type DynamicModule } from '@nestjs/common'
import type { GatewayConfig } from './config.js'
import { GatewayModule } from './gateway.module.js'
import { RegistryController } from './registry/registry.controller.js'

@Module({})
class Apis {}

/** All APIs of the gateway, over the same services: `/v1`, and the registry's `/v2/`. */
export function apis(config: GatewayConfig): DynamicModule {
  return { module: Apis, imports: [GatewayModule.register(config)], controllers: [RegistryController] }
}
