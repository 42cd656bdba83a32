import { z } from 'zod'

const HOUR = 3_600_000
const milliseconds = z.coerce
  .number()
  .int()
  .min(1_000)
  .max(30 * 24 * HOUR)

/**
 * How long what a client of the registry has begun stays without it. Gateways renew what is used
 * within a fraction of these times, and the storage service ends what was not renewed. So each of
 * them needs the same values.
 */
export const pushTimesShape = {
  STRATA_PUSH_EXPIRY_MS: milliseconds
    .default(HOUR)
    .describe(
      'How long an upload of the registry that no request uses is kept, in milliseconds. The same for all gateways and storage services',
    ),
  STRATA_PUSH_HOLD_MS: milliseconds
    .default(24 * HOUR)
    .describe(
      'How long a blob stays without a manifest after a client was told that it is there, in milliseconds. The same for all gateways and storage services',
    ),
}

export interface PushTimes {
  /** Of an upload. */
  readonly expiryMs: number
  /** Of a blob without a manifest. */
  readonly holdMs: number
}

export function pushTimesIn(config: z.infer<z.ZodObject<typeof pushTimesShape>>): PushTimes {
  return { expiryMs: config.STRATA_PUSH_EXPIRY_MS, holdMs: config.STRATA_PUSH_HOLD_MS }
}
