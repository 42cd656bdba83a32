import type { Server } from 'node:http'
import { join } from 'node:path'
import {
  bodyLimits,
  closeListener,
  createHttpApp,
  listenerText,
  listenerLimits,
  openListener,
  parseTcpListener,
  type Listener,
  type RunningService,
  type Service,
  type ServiceMetrics,
} from '@strata/platform'
import { nodeAuthentication } from './authentication.js'
import { runtimeConfigSchema, type RuntimeConfig } from './config.js'
import { RuntimeModule } from './runtime.module.js'
import { RuntimeNode } from './runtime-node.js'

export const runtime: Service<typeof runtimeConfigSchema> = {
  name: 'runtime',
  summary: 'Roots, mounts and containers of its node. One for each node, as root.',
  config: runtimeConfigSchema,
  start: startRuntime,
}

/** The node's service: reconciled, its node API open, then known to others and taking jobs. */
async function startRuntime(config: RuntimeConfig, metrics: ServiceMetrics): Promise<RunningService> {
  const { app, handler } = await createHttpApp(RuntimeModule.register(config, metrics), {
    authentication: nodeAuthentication(config),
    bodies: bodyLimits(config),
    metrics,
  })
  const node = app.get(RuntimeNode)
  const listener: Listener =
    config.STRATA_DOOR_LISTEN === undefined
      ? { kind: 'unix', path: join(config.STRATA_RUN_FOLDER, 'door.sock'), mode: 0o600 }
      : parseTcpListener(config.STRATA_DOOR_LISTEN)
  const server = await openListener(listener, handler, listenerLimits(config))
  const address = config.STRATA_DOOR_ADDRESS ?? listenerText(bound(listener, server))
  try {
    await node.serve(address)
  } catch (error) {
    await closeListener(server, config.STRATA_DRAIN_MS)
    await node.close()
    throw error
  }
  return {
    addresses: [address],
    notReady: () => node.readiness.notReady(),
    close: async () => {
      await closeListener(server, config.STRATA_DRAIN_MS)
      await node.close()
      await app.close()
    },
  }
}

/** With the port that the kernel chose, where 0 was asked for. */
function bound(listener: Listener, server: Server): Listener {
  const address = server.address()
  const isTcp = listener.kind === 'tcp' && address !== null && typeof address === 'object'
  return isTcp ? { ...listener, port: address.port } : listener
}
