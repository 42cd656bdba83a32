import { checkStoreConfig, storeConfigShape } from '@strata/store'
import { z } from 'zod'

export const storageConfigSchema = z.object({
  STRATA_REDIS: z.string().min(1),
  ...storeConfigShape,
  /** How often uploads are looked over, in milliseconds. */
  STRATA_SWEEP_INTERVAL_MS: z.coerce.number().int().min(100).default(10_000),
  /** How long an upload's record must stay unchanged, by this service's clock, for its owner to count as dead. */
  STRATA_UPLOAD_SILENCE_MS: z.coerce.number().int().min(100).default(30_000),
  STRATA_LOG_LEVEL: z.string().default('info'),
}).check(checkStoreConfig)
export type StorageConfig = z.infer<typeof storageConfigSchema>
