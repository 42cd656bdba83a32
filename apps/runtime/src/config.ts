import { checkStoreConfig, storeConfigShape } from '@strata/store'
import { z } from 'zod'

export const runtimeConfigSchema = z.object({
  STRATA_REDIS: z.string().min(1),
  ...storeConfigShape,
  /** This node's id: lower-case letters, digits, `-`. */
  STRATA_NODE: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/),
  /** This node's own folder, on a file system where layers can be mounted. */
  STRATA_NODE_FOLDER: z.string().min(1),
  /** What must not survive a reboot: bundles, the runtime's state, the door's socket. A tmpfs where there is one. */
  STRATA_RUN_FOLDER: z.string().min(1),
  /** Holds the secret that the gateway and all nodes share. */
  STRATA_NODE_SECRET_FILE: z.string().min(1),
  /** The storage driver; the best that works here if left out. */
  STRATA_SNAPSHOTTER: z.enum(['erofs', 'overlay']).optional(),
  /** How EROFS reaches its files. */
  STRATA_EROFS: z.enum(['file', 'loop']).optional(),
  /** Launches at a time. */
  STRATA_LAUNCH_CONCURRENCY: z.coerce.number().int().min(1).max(64).default(4),
  STRATA_LOG_LEVEL: z.string().default('info'),
}).check(checkStoreConfig)
export type RuntimeConfig = z.infer<typeof runtimeConfigSchema>
export const RUNTIME_CONFIG = Symbol('runtime config')
