import { createHash } from 'node:crypto'
import { realpathSync } from 'node:fs'
import { join } from 'node:path'
import { StrataError } from '@strata/base'
import { gateway } from '@strata/gateway'
import { ownFolder } from '@strata/linux'
import { absolutePath, serviceConfigShape } from '@strata/platform'
import { z } from 'zod'

export const SERVICES = ['gateway', 'ingest', 'extractor', 'storage', 'runtime'] as const
export type ServiceName = (typeof SERVICES)[number]

/**
 * The environment of several services in one process; every variable of a service that is set
 * counts over what follows from these.
 */
export const standaloneConfigSchema = z.object({
  STRATA_DATA: absolutePath.default('/var/lib/strata').describe('The folder of everything that is kept'),
  STRATA_SOCKET: absolutePath.default('/run/strata/strata.sock').describe('The unix socket to listen on'),
  STRATA_LISTEN: gateway.config.shape.STRATA_LISTEN,
  STRATA_SERVICES: z
    .string()
    .default(SERVICES.join(','))
    .transform((text) => text.split(',').map((name) => name.trim()))
    .pipe(z.array(z.enum(SERVICES)).min(1))
    .describe('Which services this process runs, with commas'),
  STRATA_REDIS: serviceConfigShape.STRATA_REDIS.optional().describe(
    'Another Redis than the private one, which is then not started',
  ),
  STRATA_HEALTH: serviceConfigShape.STRATA_HEALTH,
  STRATA_DRAIN_MS: serviceConfigShape.STRATA_DRAIN_MS,
})
export type StandaloneConfig = z.infer<typeof standaloneConfigSchema>

export interface Layout {
  readonly data: string
  readonly redisFolder: string
  /** Of both secrets; made at the first start. */
  readonly secretFiles: readonly string[]
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
  ownFolder(config.STRATA_DATA, 0o711)
  const data = realpathSync.native(config.STRATA_DATA)
  // Everything below would be looked for, and made, in a folder of another name.
  if (data.includes('\ufffd'))
    throw new StrataError('bad_request', `STRATA_DATA leads to ${JSON.stringify(data)}, whose name is not UTF-8`)
  const node = environment['STRATA_NODE'] ?? `n${createHash('sha256').update(data).digest('hex').slice(0, 8)}`
  const redisFolder = join(data, 'redis')
  const secretFiles = {
    STRATA_TOKEN_FILE: environment['STRATA_TOKEN_FILE'] ?? join(data, 'token'),
    STRATA_NODE_SECRET_FILE: environment['STRATA_NODE_SECRET_FILE'] ?? join(data, 'node-secret'),
  }
  return {
    data,
    redisFolder,
    secretFiles: Object.values(secretFiles),
    environment: {
      STRATA_REDIS: `unix://${join(redisFolder, 'redis.sock')}`,
      STRATA_STORE: join(data, 'store'),
      STRATA_NODE: node,
      STRATA_NODE_FOLDER: join(data, 'node'),
      STRATA_RUN_FOLDER: `/run/strata/${node}`,
      ...environment,
      ...secretFiles,
      STRATA_SOCKET: config.STRATA_SOCKET,
    },
  }
}
