import { indexMemoryShape, MAX_ARCHIVE_NAMES } from '@strata/archive'
import { MAX_JSON_BYTES } from '@strata/oci'
import { absolutePath, serviceConfigShape } from '@strata/platform'
import { blobLimitShape, checkStoreConfig, pushTimesShape, storeConfigShape } from '@strata/store'
import { z } from 'zod'

export const ingestConfigSchema = z
  .object({
    ...serviceConfigShape,
    ...storeConfigShape,
    ...indexMemoryShape,
    STRATA_INGEST_CONCURRENCY: z.coerce
      .number()
      .int()
      .min(1)
      .max(64)
      .default(4)
      .describe('How many loads are worked on at a time; those that wait for their layers do not count'),
    STRATA_PULL_CONCURRENCY: z.coerce
      .number()
      .int()
      .min(1)
      .max(64)
      .default(4)
      .describe('How many pulls are worked on at a time; those that wait for their layers do not count'),
    STRATA_NODE_SECRET_FILE: absolutePath
      .optional()
      .describe(
        'The file of the secret that all gateways and nodes share. Without it, pulls that need credentials are refused',
      ),
    ...blobLimitShape,
    ...pushTimesShape,
    STRATA_MAX_JSON_BYTES: z.coerce
      .number()
      .int()
      .min(1)
      .max(MAX_JSON_BYTES)
      .default(MAX_JSON_BYTES)
      .describe('Limit: bytes of a manifest, config or list in an archive; of all together 16 times as many'),
    STRATA_MAX_ARCHIVE_NAMES: z.coerce
      .number()
      .int()
      .min(1)
      .max(100_000)
      .default(MAX_ARCHIVE_NAMES)
      .describe('Limit: names that one archive gives, and images that it has'),
  })
  .check(checkStoreConfig)
export type IngestConfig = z.infer<typeof ingestConfigSchema>
