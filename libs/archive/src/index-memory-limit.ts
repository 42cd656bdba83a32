import { StrataError } from '@strata/base'
import { z } from 'zod'

const MIB = 2 ** 20

/**
 * An index under construction has its columns, the tables that it is looked up in, and in the end
 * its encoded form beside them.
 */
const BUILT_PER_BYTE = 3
/**
 * A decoded index has its encoded form, and with its part of a merged tree 40 bytes an entry, of
 * which none has less than 52 bytes.
 */
const MERGED_PER_BYTE = 1 + 40 / 52
/** Of the whole: indexes of layers while they are uploaded. */
const UPLOADS_SHARE = 1 / 4

/**
 * Of one process, in bytes: three quarters of it suffice for building the largest index that is
 * allowed by default.
 */
export const INDEX_MEMORY = 2_048 * MIB

/** The variable, for every service that has indexes in memory or refuses too large ones. */
export const indexMemoryShape = {
  STRATA_INDEX_MEMORY: z.coerce
    .number()
    .int()
    .min(16)
    .max(1_048_576)
    .default(INDEX_MEMORY / MIB)
    .describe(
      'Limit: MiB for the indexes of layers that one process builds and merges at a time. An image that alone needs ' +
        'more than three quarters is refused when it is loaded. The same for gateways, ingest, extractors and runtimes',
    ),
}

/** Bytes of memory that merging a stack takes whose indexes have so many bytes together. */
export function stackMemory(indexBytes: number): number {
  return Math.ceil(indexBytes * MERGED_PER_BYTE)
}

/** Bytes of memory that building an index of so many bytes takes. */
export function buildMemory(indexBytes: number): number {
  return Math.ceil(indexBytes * BUILT_PER_BYTE)
}

/** How much of a budget extractions and assemblies may have: the rest is for uploads. */
export function workShare(budget: number): number {
  return budget - Math.floor(budget * UPLOADS_SHARE)
}

/**
 * @param what needs the memory, in a sentence: `the image web:3`
 * @param budget in bytes, of a whole process
 * @throws StrataError `limit_exceeded` for what no process with this budget has room for
 */
export function expectIndexMemory(bytes: number, what: string, budget: number): void {
  const most = workShare(budget)
  if (bytes <= most) return
  const [need, have] = [Math.ceil(bytes / MIB), Math.floor(most / MIB)]
  const limit = `the limit is ${have} MiB, three quarters of STRATA_INDEX_MEMORY`
  throw new StrataError('limit_exceeded', `${what} needs ${need} MiB of memory for indexes; ${limit}`)
}
