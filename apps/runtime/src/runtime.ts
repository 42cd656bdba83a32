import { join } from 'node:path'
import { closeDoor, createHttpApp, doorText, openDoor, type Door } from '@strata/platform'
import type { RuntimeConfig } from './config.js'
import { RuntimeModule } from './runtime.module.js'
import { RuntimeNode } from './runtime-node.js'

const DRAIN_MS = 5_000

/** The node's service: reconciled, its door open, then known to others and taking jobs. */
export async function startRuntime(config: RuntimeConfig): Promise<{ close(): Promise<void> }> {
  const { app, handler } = await createHttpApp(RuntimeModule.register(config))
  const node = app.get(RuntimeNode)
  const door: Door = { kind: 'unix', path: join(config.STRATA_RUN_FOLDER, 'door.sock'), mode: 0o600 }
  const server = await openDoor(door, handler)
  node.serve(doorText(door))
  return {
    close: async () => {
      await closeDoor(server, DRAIN_MS)
      await node.close()
      await app.close()
    },
  }
}
