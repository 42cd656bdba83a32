import { z } from 'zod'
import { MAX_RATIO } from './compression.js'
import { TAR_LIMITS, type TarLimits } from './tar-entry.js'

/** What an archive's layers, and an archive itself, may be. */
export interface PackedLimits extends TarLimits {
  /** Bytes out for each byte in, of what is packed. */
  readonly ratio: number
}

export const PACKED_LIMITS: PackedLimits = { ...TAR_LIMITS, ratio: MAX_RATIO }

const atMost = (most: number) => z.coerce.number().int().min(1).max(most).default(most)

/** The variables that lower them, for gateway and extractors alike. What the kernel and the index's format take can be lowered only. */
export const packedLimitsShape = {
  STRATA_MAX_LAYER_ENTRIES: atMost(PACKED_LIMITS.entries).describe('Limit: entries of a layer. The same for gateways and extractors, as the three below'),
  STRATA_MAX_PATH_BYTES: atMost(PACKED_LIMITS.path).describe('Limit: bytes of a name or link in an archive or a layer'),
  STRATA_MAX_PATH_DEPTH: atMost(PACKED_LIMITS.depth).describe('Limit: components of a name in an archive or a layer'),
  STRATA_MAX_RATIO: z.coerce.number().int().min(1).max(1_000_000).default(PACKED_LIMITS.ratio).describe('Limit: times its own size to which what is packed may unpack, beyond the first 16 MiB'),
}

export function packedLimits(config: z.infer<z.ZodObject<typeof packedLimitsShape>>): PackedLimits {
  return { entries: config.STRATA_MAX_LAYER_ENTRIES, path: config.STRATA_MAX_PATH_BYTES, depth: config.STRATA_MAX_PATH_DEPTH, ratio: config.STRATA_MAX_RATIO }
}
