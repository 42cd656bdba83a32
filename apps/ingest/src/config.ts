import { checkStoreConfig, storeConfigShape } from '@strata/store'
import { z } from 'zod'

export const ingestConfigSchema = z.object({
  STRATA_REDIS: z.string().min(1),
  ...storeConfigShape,
  /** How many loads are worked on at a time; those that wait for their layers do not count. */
  STRATA_INGEST_CONCURRENCY: z.coerce.number().int().min(1).max(64).default(4),
  STRATA_LOG_LEVEL: z.string().default('info'),
}).check(checkStoreConfig)
export type IngestConfig = z.infer<typeof ingestConfigSchema>
