import type { Server } from 'node:http'
import { StrataError } from '@strata/oci'
import { closeDoor, createHttpApp, openDoor, parseTcpDoor, type Door } from '@strata/platform'
import type { GatewayConfig } from './config.js'
import { serveDocs } from './docs.js'
import { GatewayModule } from './gateway.module.js'

export interface Gateway {
  readonly doors: readonly Door[]
  close(): Promise<void>
}

const DRAIN_MS = 10_000

/** The public door: opens all that the configuration names, or none. */
export async function startGateway(config: GatewayConfig): Promise<Gateway> {
  const doors: Door[] = []
  if (config.STRATA_LISTEN) doors.push(parseTcpDoor(config.STRATA_LISTEN))
  // The socket last: whoever is answered there finds every other door open.
  if (config.STRATA_SOCKET) doors.push({ kind: 'unix', path: config.STRATA_SOCKET, mode: 0o660, group: 'strata' })
  if (doors.length === 0) throw new StrataError('bad_request', 'the gateway has no door: set STRATA_SOCKET or STRATA_LISTEN')
  const { app, handler } = await createHttpApp(GatewayModule.register(config), serveDocs)
  const servers: Server[] = []
  const close = async (): Promise<void> => {
    await Promise.all(servers.map((server) => closeDoor(server, DRAIN_MS)))
    await app.close()
  }
  try {
    for (const door of doors) servers.push(await openDoor(door, handler))
  } catch (error) {
    await close()
    throw error
  }
  return { doors, close }
}
