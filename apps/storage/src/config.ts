import { serviceConfigShape } from '@strata/platform'
import { checkStoreConfig, storeConfigShape } from '@strata/store'
import { z } from 'zod'

export const storageConfigSchema = z.object({
  ...serviceConfigShape,
  ...storeConfigShape,
  STRATA_SWEEP_INTERVAL_MS: z.coerce.number().int().min(100).default(10_000).describe('How often uploads are looked over, in milliseconds'),
  STRATA_UPLOAD_SILENCE_MS: z.coerce.number().int().min(100).default(30_000).describe('How long the record of an upload must stay unchanged, by the clock of this service, for its owner to count as dead, in milliseconds'),
}).check(checkStoreConfig)
export type StorageConfig = z.infer<typeof storageConfigSchema>
