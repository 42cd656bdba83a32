import { z } from 'zod'
import { MAX_RATIO } from './packing/compression.js'
import { TAR_LIMITS, type TarLimits } from './tar/tar-entry.js'

/** What an archive's layers, and an archive itself, may be. */
export interface PackedLimits extends TarLimits {
  /** Bytes out for each byte in, of what is packed. */
  readonly ratio: number
  /** Bytes of a layer's index, counted while it is built. */
  readonly indexBytes: number
}

/**
 * Seven million entries with names of 25 bytes; or 150,000 of them with 3 KiB of extended
 * attributes each.
 */
const INDEX_BYTES = 512 * 1024 * 1024
/** What readers of an index take. */
const MOST_INDEX_BYTES = 2 ** 31 - 1

export const PACKED_LIMITS: PackedLimits = { ...TAR_LIMITS, ratio: MAX_RATIO, indexBytes: INDEX_BYTES }

const atMost = (most: number) => z.coerce.number().int().min(1).max(most).default(most)

/**
 * The variables that lower them, for gateway and extractors alike. What the kernel and the index's
 * format take can be lowered only.
 */
export const packedLimitsShape = {
  STRATA_MAX_LAYER_ENTRIES: atMost(PACKED_LIMITS.entries).describe(
    'Limit: entries of a layer. The same for gateways and extractors, as the four below',
  ),
  STRATA_MAX_PATH_BYTES: atMost(PACKED_LIMITS.path).describe('Limit: bytes of a name or link in an archive or a layer'),
  STRATA_MAX_PATH_DEPTH: atMost(PACKED_LIMITS.depth).describe('Limit: components of a name in an archive or a layer'),
  STRATA_MAX_INDEX_BYTES: z.coerce
    .number()
    .int()
    .min(1)
    .max(MOST_INDEX_BYTES)
    .default(PACKED_LIMITS.indexBytes)
    .describe(
      "Limit: bytes of a layer's index: of each entry 52, its name, link target, extended attributes and sparse map",
    ),
  STRATA_MAX_RATIO: z.coerce
    .number()
    .int()
    .min(1)
    .max(1_000_000)
    .default(PACKED_LIMITS.ratio)
    .describe('Limit: times its own size to which what is packed may unpack, beyond the first 16 MiB'),
}

export function packedLimits(config: z.infer<z.ZodObject<typeof packedLimitsShape>>): PackedLimits {
  return {
    entries: config.STRATA_MAX_LAYER_ENTRIES,
    path: config.STRATA_MAX_PATH_BYTES,
    depth: config.STRATA_MAX_PATH_DEPTH,
    ratio: config.STRATA_MAX_RATIO,
    indexBytes: config.STRATA_MAX_INDEX_BYTES,
  }
}
