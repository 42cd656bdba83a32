import { createHash } from 'node:crypto'
import { mkdirSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'

export const SERVICES = ['gateway', 'ingest', 'extractor', 'storage', 'runtime'] as const
export type Service = (typeof SERVICES)[number]

/** The environment of all services in one process; every variable of a service that is set counts over what follows from these. */
export const standaloneConfigSchema = z.object({
  /** Everything that is kept. */
  STRATA_DATA: z.string().startsWith('/', 'must be an absolute path').default('/var/lib/strata'),
  STRATA_SOCKET: z.string().startsWith('/', 'must be an absolute path').default('/run/strata/strata.sock'),
  STRATA_LISTEN: z.string().optional(),
  /** Which services this process runs, with commas; all if left out. */
  STRATA_SERVICES: z
    .string()
    .default(SERVICES.join(','))
    .transform((text) => text.split(',').map((name) => name.trim()))
    .pipe(z.array(z.enum(SERVICES)).min(1)),
  /** Another Redis than the private one, which is then not started. */
  STRATA_REDIS: z.string().optional(),
})
export type StandaloneConfig = z.infer<typeof standaloneConfigSchema>

export interface Layout {
  readonly data: string
  readonly redisFolder: string
  /** Environment of every service. */
  readonly environment: NodeJS.ProcessEnv
}

/**
 * Where things lie, all following from the data folder:
 *
 *     <data>/store/        objects          <data>/node/      layers, roots, containers of this node
 *     <data>/redis/        the private one  <data>/token, <data>/node-secret
 *     /run/strata/<node>/  what must not survive a reboot
 * The node's id follows from the data folder too, so that two of them on one machine are two nodes.
 */
export function layoutOf(config: StandaloneConfig, environment: NodeJS.ProcessEnv): Layout {
  mkdirSync(config.STRATA_DATA, { recursive: true, mode: 0o711 })
  const data = realpathSync(config.STRATA_DATA)
  const node = environment['STRATA_NODE'] ?? `n${createHash('sha256').update(data).digest('hex').slice(0, 8)}`
  const redisFolder = join(data, 'redis')
  return {
    data,
    redisFolder,
    environment: {
      STRATA_REDIS: `unix://${join(redisFolder, 'redis.sock')}`,
      STRATA_STORE: join(data, 'store'),
      STRATA_NODE: node,
      STRATA_NODE_FOLDER: join(data, 'node'),
      STRATA_RUN_FOLDER: `/run/strata/${node}`,
      STRATA_TOKEN_FILE: join(data, 'token'),
      STRATA_NODE_SECRET_FILE: join(data, 'node-secret'),
      ...environment,
      STRATA_SOCKET: config.STRATA_SOCKET,
    },
  }
}
