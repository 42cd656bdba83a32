const MIB = 1024 * 1024

/** S3's limit. */
export const MAX_PARTS = 10_000
/**
 * A buffer of the driver's, and the size of an object's first parts: larger requests make no upload
 * faster (docs/performance.md), and a part is in memory until the server has it.
 */
export const UNIT = 8 * MIB
/** So many parts are of one unit: an object of 15 GiB takes no more memory than a small one. */
const SMALL_PARTS = 2_000
/** From there on, so many parts in a row are of one size, then parts are a unit larger. */
const PARTS_A_STEP = 250

/** How large the part with a number is, from 0 on. The last one is what is left. */
export type PartPlan = (at: number) => number

/**
 * Nobody knows how long a stream will be, and an object has 10,000 parts at most. So parts grow
 * with the object:
 *
 *     up to 15 GiB    8 MiB each
 *     at 78 GiB      64 MiB
 *     at 1 TiB      264 MiB      all 10,000 together: 1.08 TiB
 *
 * Fewer large ones are on their way at a time (`Multipart`).
 */
export const growingParts: PartPlan = (at) =>
  UNIT * (at < SMALL_PARTS ? 1 : 2 + Math.floor((at - SMALL_PARTS) / PARTS_A_STEP))
