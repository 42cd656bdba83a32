import type { BodyMemory } from './body-memory.js'

const MIB = 1024 * 1024

/** S3's limit for every part but the last of an object. */
export const MIN_PART = 5 * MIB
/** S3's limit. */
export const MAX_PARTS = 10_000
/** The first parts of an upload if others leave little memory; the step by which parts grow. */
export const SMALL_PART = 8 * MIB
/** The first parts of an upload that has memory: a server syncs half as often. */
export const LARGE_PART = 16 * MIB
/** The first parts that do not grow: an object of 15 GiB takes no more memory than a small one. */
const LEVEL_PARTS = 2_000
/** After those, parts grow by one step each time this many have been sent. */
const PARTS_A_STEP = 250

/** The size in bytes of the part with this number, from 0. The last part has what is left. */
export type PartPlan = (at: number) => number

/**
 * The length of a stream is not known beforehand, and an object has at most 10,000 parts. So parts
 * grow with the object:
 *
 *     up to 15 GiB    8 MiB each, or 16
 *     at 78 GiB      64 MiB
 *     at 1 TiB      264 MiB      all 10,000 together: 1.08 TiB
 */
export const smallParts: PartPlan = (at) =>
  SMALL_PART * (at < LEVEL_PARTS ? 1 : 2 + Math.floor((at - LEVEL_PARTS) / PARTS_A_STEP))
export const largeParts: PartPlan = (at) => Math.max(LARGE_PART, smallParts(at))

/** The plan of an upload that begins now. Its parts do not become smaller later. */
export function planIn(memory: BodyMemory): PartPlan {
  return memory.hasRoom(memory.promised + 2 * LARGE_PART) ? largeParts : smallParts
}
