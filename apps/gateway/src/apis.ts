import { Module, type DynamicModule } from '@nestjs/common'
import type { ServiceMetrics, Tree } from '@strata/platform'
import type { GatewayConfig } from './config.js'
import { GatewayModule } from './gateway.module.js'
import { registryErrors } from './registry/errors.js'
import { RegistryApi } from './registry/registry-api.js'
import { MetricsController } from './system/metrics.controller.js'

@Module({})
class Apis {}

/** All APIs of the gateway, over the same services: `/v1`, the registry's `/v2/`, `/metrics`. */
export function apis(config: GatewayConfig, metrics: ServiceMetrics): DynamicModule {
  return {
    module: Apis,
    imports: [GatewayModule.register(config, metrics)],
    controllers: [MetricsController],
    providers: [RegistryApi],
  }
}

/** What the application serves past the framework. */
export const TREES: readonly Tree[] = [{ prefix: '/v2', form: registryErrors, server: RegistryApi }]
