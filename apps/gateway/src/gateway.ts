import type { Server } from 'node:http'
import { DESCRIPTOR_TYPE } from '@strata/api'
import {
  bodyLimits,
  closeListener,
  createHttpApp,
  listenerText,
  listenerLimits,
  openListener,
  parseTcpListener,
  Readiness,
  type Listener,
  type RunningService,
  type Service,
  type ServiceMetrics,
} from '@strata/platform'
import { gatewayAuthentication } from './authentication.js'
import { gatewayConfigSchema, type GatewayConfig } from './config.js'
import { serveDocs } from './docs.js'
import { apis, TREES } from './apis.js'

/** The service for `runService` and `strata up`: name, configuration and start. */
export const gateway: Service<typeof gatewayConfigSchema> = {
  name: 'gateway',
  summary: 'The public API: REST, on a unix socket, TCP, or both. Any number of them serve alike.',
  config: gatewayConfigSchema,
  start: startGateway,
}

/** Opens all listeners that the configuration names, or none. */
async function startGateway(config: GatewayConfig, metrics: ServiceMetrics): Promise<RunningService> {
  const listeners: Listener[] = []
  if (config.STRATA_LISTEN !== undefined) listeners.push(parseTcpListener(config.STRATA_LISTEN))
  // The socket is opened last, so a client that gets an answer there finds every other listener
  // open.
  if (config.STRATA_SOCKET !== undefined)
    listeners.push({ kind: 'unix', path: config.STRATA_SOCKET, mode: 0o660, group: 'strata' })
  const { app, handler } = await createHttpApp(apis(config, metrics), {
    authentication: gatewayAuthentication(config),
    bodies: bodyLimits(config),
    jsonTypes: [DESCRIPTOR_TYPE],
    trees: TREES,
    metrics,
    prepare: serveDocs,
  })
  const servers: Server[] = []
  const close = async (): Promise<void> => {
    await Promise.all(servers.map((server) => closeListener(server, config.STRATA_DRAIN_MS)))
    await app.close()
  }
  try {
    for (const listener of listeners) servers.push(await openListener(listener, handler, listenerLimits(config)))
  } catch (error) {
    await close()
    throw error
  }
  const readiness = app.get(Readiness)
  return { addresses: listeners.map(listenerText), notReady: () => readiness.notReady(), close }
}
