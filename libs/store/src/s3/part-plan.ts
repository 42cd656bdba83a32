const MIB = 1024 * 1024

/** S3's limit for every part but the last of an object. */
export const MIN_PART = 5 * MIB
/** S3's limit. */
export const MAX_PARTS = 10_000
/**
 * The size of the driver's buffers and of an object's first parts. Larger requests make no upload
 * faster (docs/performance.md), and a part is in memory until the server has it.
 */
export const UNIT = 8 * MIB
/**
 * The first parts that have one unit each: an object of 15 GiB takes no more memory than a small
 * one.
 */
const SMALL_PARTS = 2_000
/** After those, parts grow by one unit each time this many have been sent. */
const PARTS_A_STEP = 250

/** The size in bytes of the part with this number, from 0. The last part has what is left. */
export type PartPlan = (at: number) => number

/**
 * The length of a stream is not known beforehand, and an object has at most 10,000 parts. So parts
 * grow with the object:
 *
 *     up to 15 GiB    8 MiB each
 *     at 78 GiB      64 MiB
 *     at 1 TiB      264 MiB      all 10,000 together: 1.08 TiB
 *
 * Of large parts, fewer are sent at the same time (`Multipart`).
 */
export const growingParts: PartPlan = (at) =>
  UNIT * (at < SMALL_PARTS ? 1 : 2 + Math.floor((at - SMALL_PARTS) / PARTS_A_STEP))
