import type { Duplex } from 'node:stream'
import type { Compression } from '@strata/oci'
import { decompressor, detectCompression, MAX_RATIO } from './compression.js'
import { ProgramDecompressor, type ProgramCompression } from './program-decompressor.js'

/**
 * How a whole archive may be packed; a layer's blob only by the first of them (image-spec,
 * layer.md).
 */
export type ArchiveCompression = Compression | ProgramCompression

/** Enough of an archive's beginning for `detectArchiveCompression`. */
export const ARCHIVE_HEAD = 10

const XZ = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])
/**
 * `BZh`, the size of a block, and what the first block, or the end of a stream of none, begins
 * with: a tar's first name can be `BZh9`.
 */
const [BZIP2, BZIP2_BODIES] = [/^BZh[1-9]/, ['314159265359', '177245385090']]

/** By content, as `detectCompression`. */
export function detectArchiveCompression(head: Uint8Array): ArchiveCompression {
  const bytes = Buffer.from(head.buffer, head.byteOffset, Math.min(head.byteLength, ARCHIVE_HEAD))
  if (bytes.subarray(0, XZ.length).equals(XZ)) return 'xz'
  if (BZIP2.test(bytes.toString('latin1')) && BZIP2_BODIES.includes(bytes.subarray(4).toString('hex'))) return 'bzip2'
  return detectCompression(head)
}

/**
 * Packed bytes in, plain bytes out, with the errors and the ratio of `decompressor`, and
 * `unsupported` where a program for it is not installed. To be destroyed when nobody reads it any
 * more.
 */
export function archiveDecompressor(compression: ArchiveCompression, maxRatio = MAX_RATIO): Duplex {
  return compression === 'xz' || compression === 'bzip2'
    ? new ProgramDecompressor(compression, maxRatio)
    : decompressor(compression, { of: 'archive', maxRatio })
}
