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
} from '@strata/platform'
import { gatewayAuthentication } from './authentication.js'
import { gatewayConfigSchema, type GatewayConfig } from './config.js'
import { serveDocs } from './docs.js'
import { GatewayModule } from './gateway.module.js'

export const gateway: Service<typeof gatewayConfigSchema> = {
  name: 'gateway',
  summary: 'The public door: the REST API, on a unix socket, TCP, or both. Any number of them serve alike.',
  config: gatewayConfigSchema,
  start: startGateway,
}

/** Opens all doors that the configuration names, or none. */
async function startGateway(config: GatewayConfig): Promise<RunningService> {
  const doors: Listener[] = []
  if (config.STRATA_LISTEN !== undefined) doors.push(parseTcpListener(config.STRATA_LISTEN))
  // The socket last: whoever is answered there finds every other door open.
  if (config.STRATA_SOCKET !== undefined)
    doors.push({ kind: 'unix', path: config.STRATA_SOCKET, mode: 0o660, group: 'strata' })
  const { app, handler } = await createHttpApp(GatewayModule.register(config), {
    authentication: gatewayAuthentication(config),
    bodies: bodyLimits(config),
    jsonTypes: [DESCRIPTOR_TYPE],
    prepare: serveDocs,
  })
  const servers: Server[] = []
  const close = async (): Promise<void> => {
    await Promise.all(servers.map((server) => closeListener(server, config.STRATA_DRAIN_MS)))
    await app.close()
  }
  try {
    for (const door of doors) servers.push(await openListener(door, handler, listenerLimits(config)))
  } catch (error) {
    await close()
    throw error
  }
  const readiness = app.get(Readiness)
  return { doors: doors.map(listenerText), notReady: () => readiness.notReady(), close }
}
