import { checkStoreConfig, storeConfigShape } from '@strata/store'
import { z } from 'zod'

export const extractorConfigSchema = z.object({
  STRATA_REDIS: z.string().min(1),
  ...storeConfigShape,
  /** This node's id: lower-case letters, digits, `-`. */
  STRATA_NODE: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/),
  /** This node's own folder; layers lie in `layers` below it. */
  STRATA_NODE_FOLDER: z.string().min(1),
  /** Layers inflated at a time. */
  STRATA_EXTRACT_CONCURRENCY: z.coerce.number().int().min(1).max(64).default(2),
  STRATA_LOG_LEVEL: z.string().default('info'),
}).check(checkStoreConfig)
export type ExtractorConfig = z.infer<typeof extractorConfigSchema>
export const layersFolder = (nodeFolder: string): string => `${nodeFolder}/layers`
