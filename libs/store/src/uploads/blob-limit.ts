import { z } from 'zod'

/** For every service that takes blobs in. */
export const blobLimitShape = {
  STRATA_MAX_BLOB_BYTES: z.coerce
    .number()
    .int()
    .min(1)
    .max(2 ** 50)
    .default(2 ** 40)
    .describe('Limit: bytes of a blob that is pushed or pulled'),
}
