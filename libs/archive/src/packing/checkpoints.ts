import { createHash } from 'node:crypto'
import { StrataError } from '@strata/base'

/**
 * Places in a gzip layer's blob from which it can be unpacked without what is before. As bytes,
 * little-endian: a header, a row of 64 bytes for each, then what they need of the bytes before
 * them.
 *
 *     0 magic "strataCP"   8 u32 version   12 u32 rows                                     16… zeros to 64
 *     row: 0 f64 place in the blob  8 f64 byte of the tar   16 f64 window's offset in this object   24 u32 its length   28 zeros   32 sha256 of the row's first 16 bytes and the window
 *
 * A place in the blob is a number of bytes, with an eighth for each bit: a block of a member's
 * deflate stream begins there. Its window is raw
 * deflate of the up to 32 KiB of the tar before, and the next place is in the same member or at the
 * beginning of another. Or it is where a member itself begins: then it needs no window, and the
 * next place may be in any member.
 */
const MAGIC = Buffer.from('strataCP', 'latin1')
const VERSION = 2
export const CHECKPOINTS_HEADER = 64
const ROW = 64

export interface Checkpoint {
  /** Where in the blob: a byte … */
  readonly packed: number
  /** … and how many of its bits, from the lowest, are before the place (`fromAmidByte`). */
  readonly bit: number
  /** Where in the tar. */
  readonly out: number
  /** The next one's `out`; of the last one, the end. */
  readonly end: number
  /** Empty where a member begins. */
  readonly window: { readonly start: number; readonly end: number }
  /** Whether these are the window's bytes. */
  readonly isWindow: (bytes: Buffer) => boolean
}

export interface NewCheckpoint {
  readonly packed: number
  readonly bit: number
  readonly out: number
  /** As it is kept: packed. Empty where a member begins. */
  readonly window: Buffer
}

export function encodeCheckpoints(points: readonly NewCheckpoint[]): Buffer {
  const head = Buffer.alloc(CHECKPOINTS_HEADER + points.length * ROW)
  MAGIC.copy(head)
  head.writeUInt32LE(VERSION, 8)
  head.writeUInt32LE(points.length, 12)
  let end = head.length
  for (const [at, { packed, bit, out, window }] of points.entries()) {
    const row = CHECKPOINTS_HEADER + at * ROW
    head.writeDoubleLE(packed + bit / 8, row)
    head.writeDoubleLE(out, row + 8)
    head.writeDoubleLE(end, row + 16)
    head.writeUInt32LE(window.length, row + 24)
    hashOf(head.subarray(row, row + 16), window).copy(head, row + 32)
    end += window.length
  }
  return Buffer.concat([head, ...points.map(({ window }) => window)])
}

/** How many bytes header and rows have, from the header. @throws StrataError `corrupt` */
export function checkpointRows(header: Buffer): number {
  if (header.length < CHECKPOINTS_HEADER || !header.subarray(0, 8).equals(MAGIC) || header.readUInt32LE(8) !== VERSION)
    throw corrupt()
  return CHECKPOINTS_HEADER + header.readUInt32LE(12) * ROW
}

/**
 * The last checkpoint at or before `offset` of a tar of `size` bytes. `rows` is header and rows.
 * @throws StrataError `corrupt`
 */
export function checkpointBefore(rows: Buffer, offset: number, size: number): Checkpoint | undefined {
  const count = (checkpointRows(rows) - CHECKPOINTS_HEADER) / ROW
  if (rows.length < CHECKPOINTS_HEADER + count * ROW) throw corrupt()
  const outOf = (row: number): number => rows.readDoubleLE(CHECKPOINTS_HEADER + row * ROW + 8)
  let [low, high] = [0, count]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (outOf(middle) <= offset) low = middle + 1
    else high = middle
  }
  if (low === 0) return undefined
  const at = CHECKPOINTS_HEADER + (low - 1) * ROW
  const [place, out, start, length] = [
    rows.readDoubleLE(at),
    rows.readDoubleLE(at + 8),
    rows.readDoubleLE(at + 16),
    rows.readUInt32LE(at + 24),
  ]
  const end = low < count ? outOf(low) : size
  if (
    ![place * 8, out, start, end].every((number) => Number.isSafeInteger(number) && number >= 0) ||
    end < out ||
    length > MAX_WINDOW
  )
    throw corrupt()
  const packed = Math.floor(place)
  return {
    packed,
    bit: (place - packed) * 8,
    out,
    end,
    window: { start, end: start + length },
    isWindow: (bytes) => hashOf(rows.subarray(at, at + 16), bytes).equals(rows.subarray(at + 32, at + 64)),
  }
}
/** What does not pack grows a little. */
const MAX_WINDOW = 64 * 1024

function hashOf(place: Buffer, window: Buffer): Buffer {
  return createHash('sha256').update(place).update(window).digest()
}

function corrupt(): StrataError {
  return new StrataError('corrupt', "a layer's checkpoints are not valid")
}
