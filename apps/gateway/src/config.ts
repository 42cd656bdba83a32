import { checkStoreConfig, storeConfigShape } from '@strata/store'
import { z } from 'zod'

/** The gateway's environment. */
export const gatewayConfigSchema = z.object({
  /** `unix:///socket` or `redis://…`. */
  STRATA_REDIS: z.string().min(1),
  ...storeConfigShape,
  /** Unix socket to listen on; access is by its file mode (0660, group strata where there is one). */
  STRATA_SOCKET: z.string().min(1).optional(),
  /** HOST:PORT to listen on as well; every request needs the token. */
  STRATA_LISTEN: z.string().min(1).optional(),
  /** Holds the token of the TCP door; made at the first start. */
  STRATA_TOKEN_FILE: z.string().min(1),
  /** Holds the secret that the gateway and all nodes share; made at the first start. */
  STRATA_NODE_SECRET_FILE: z.string().min(1),
  /** Whether a load assembles the image's root too, where the client says nothing. */
  STRATA_PREPARE: z.stringbool().default(true),
  STRATA_LOG_LEVEL: z.string().default('info'),
}).check(checkStoreConfig)
export type GatewayConfig = z.infer<typeof gatewayConfigSchema>
export const GATEWAY_CONFIG = Symbol('gateway config')
