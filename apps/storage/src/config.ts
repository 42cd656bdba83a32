import { sparseImagesShape } from '@strata/images'
import { serviceConfigShape } from '@strata/platform'
import { checkStoreConfig, pushTimesShape, storeConfigShape } from '@strata/store'
import { z } from 'zod'

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** Milliseconds; 0 for never. Not below a second: a collection reads all of the store. */
const interval = z
  .string()
  .regex(/^(?:0|off|\d{1,6}(?:ms|s|m|h|d))$/, 'must be a number with ms, s, m, h or d, as 90s or 1h; or 0 or off')
  .transform((text) =>
    text === 'off' || text === '0' ? 0 : Number.parseInt(text) * UNITS[text.replace(/^\d+/, '') as keyof typeof UNITS],
  )
  .refine((milliseconds) => milliseconds === 0 || milliseconds >= 1_000, 'must be a second or more, or 0')

export const storageConfigSchema = z
  .object({
    ...serviceConfigShape,
    ...storeConfigShape,
    STRATA_SWEEP_INTERVAL_MS: z.coerce
      .number()
      .int()
      .min(100)
      .default(2_500)
      .describe('How often uploads are looked over, in milliseconds'),
    STRATA_UPLOAD_SILENCE_MS: z.coerce
      .number()
      .int()
      .min(100)
      .default(8_000)
      .describe(
        'How long the record of an upload must stay unchanged, by the clock of this service, for its owner to count as dead, in milliseconds',
      ),
    ...pushTimesShape,
    ...sparseImagesShape,
    STRATA_NODE_LOST_MS: z.coerce
      .number()
      .int()
      .min(1_000)
      .max(86_400_000)
      .default(30_000)
      .describe(
        'How long a node, or its extractor, must be silent for its jobs to be ended or given to others, in milliseconds. Not before its registration ends, which takes 15 s',
      ),
    STRATA_GC_INTERVAL: interval
      .prefault('1h')
      .describe(
        'How often what nobody needs is collected: a number with ms, s, m, h or d (90s, 30m, 1h); 0 or off for never by itself',
      ),
  })
  .check(checkStoreConfig)
export type StorageConfig = z.infer<typeof storageConfigSchema>
