import { indexMemoryShape } from '@strata/archive'
import { absolutePath, apiConfigShape, hostPort, nodeId, parseTcpListener, serviceConfigShape } from '@strata/platform'
import { checkStoreConfig, storeConfigShape } from '@strata/store'
import { DRIVER_NAMES, variantNames } from '@strata/snapshots'
import { z } from 'zod'

export const runtimeConfigSchema = z
  .object({
    ...serviceConfigShape,
    ...storeConfigShape,
    ...apiConfigShape,
    ...indexMemoryShape,
    STRATA_NODE: nodeId.describe(
      'The id of this node, the same for its extractor and its runtime and for no other node of this Redis: lower-case letters, digits and -',
    ),
    STRATA_REJOIN: z
      .stringbool()
      .default(false)
      .describe(
        'Whether a node that was removed (strata node rm) comes back, with its containers. For one start of its runtime and its extractor',
      ),
    STRATA_NODE_FOLDER: absolutePath.describe(
      'The folder of this node, on a file system where layers can be mounted. The same for its extractor and its runtime, and for no other node',
    ),
    STRATA_RUN_FOLDER: absolutePath
      .regex(/^[\x20-\x39\x3b-\x7e]+$/, 'conmon takes only ASCII here, without colons')
      .describe(
        'What must not survive a reboot, on a tmpfs where there is one: bundles, the state of the container runtime, the socket of the node API',
      ),
    STRATA_NODE_SECRET_FILE: absolutePath.describe('The file of the secret that all gateways and nodes share'),
    STRATA_DOOR_LISTEN: hostPort
      .optional()
      .describe(
        'HOST:PORT of the node API, for gateways on other machines or in other containers. Left out: a unix socket in the run folder',
      ),
    STRATA_DOOR_ADDRESS: z
      .string()
      .regex(/^http:\/\/(\[[0-9a-fA-F:.]+\]|[^/:[\]]+):\d{1,5}$/, 'must be http://HOST:PORT')
      .optional()
      .describe('http://HOST:PORT at which gateways reach STRATA_DOOR_LISTEN. Left out: that address itself'),
    STRATA_SNAPSHOTTER: z
      .enum(DRIVER_NAMES)
      .optional()
      .describe(
        'The storage driver, one of those in [storage.md](storage.md#drivers). Left out: the best that works here',
      ),
    STRATA_EROFS: z
      .enum(variantNames('erofs'))
      .optional()
      .describe('How EROFS reaches its files. Left out: the best that works here'),
    STRATA_LAUNCH_CONCURRENCY: z.coerce
      .number()
      .int()
      .min(1)
      .max(64)
      .default(4)
      .describe('How many containers are launched at a time'),
    STRATA_ASSEMBLE_CONCURRENCY: z.coerce
      .number()
      .int()
      .min(1)
      .max(64)
      .default(4)
      .describe('How many images are assembled at a time for loads and mounts. Launches do not wait for them'),
  })
  .refine(
    (config) =>
      config.STRATA_DOOR_LISTEN === undefined ||
      config.STRATA_DOOR_ADDRESS !== undefined ||
      !isWildcard(config.STRATA_DOOR_LISTEN),
    {
      path: ['STRATA_DOOR_ADDRESS'],
      error: 'is needed, since STRATA_DOOR_LISTEN is no address that a gateway could reach',
      when: () => true,
    },
  )
  .check(checkStoreConfig)
export type RuntimeConfig = z.infer<typeof runtimeConfigSchema>
export const RUNTIME_CONFIG = Symbol('runtime config')

/** Listens on all addresses, and so is none. */
function isWildcard(listen: string): boolean {
  try {
    const listener = parseTcpListener(listen)
    return listener.kind === 'tcp' && ['', '0.0.0.0', '::'].includes(listener.host)
  } catch {
    return false
  }
}
