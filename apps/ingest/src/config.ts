import { serviceConfigShape } from '@strata/platform'
import { checkStoreConfig, storeConfigShape } from '@strata/store'
import { z } from 'zod'

export const ingestConfigSchema = z.object({
  ...serviceConfigShape,
  ...storeConfigShape,
  STRATA_INGEST_CONCURRENCY: z.coerce.number().int().min(1).max(64).default(4).describe('How many loads are worked on at a time; those that wait for their layers do not count'),
}).check(checkStoreConfig)
export type IngestConfig = z.infer<typeof ingestConfigSchema>
