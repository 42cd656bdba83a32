import { StrataError } from '@strata/base'
import { NO_BYTES, type TarEntry } from './tar-entry.js'

/**
 * The 512-byte header of v7, ustar, star and GNU tar. Sources: POSIX.1-2024 pax "ustar Interchange
 * Format"; GNU tar manual, "Basic Tar Format"; tar(5) of libarchive.
 */
export const BLOCK = 512

const NAME = 0,
  NAME_LENGTH = 100,
  LINK = 157,
  MAGIC = 257,
  PREFIX = 345,
  STAR_TRAILER = 508
const SPACE = 0x20
const CHECKSUM = 148,
  CHECKSUM_LENGTH = 8

/** 'zero' for a block of zeros, 'bad' where the checksum is wrong. */
export type HeaderCheck = 'zero' | 'good' | 'bad'

/**
 * Adds up a header four bytes at a time: both 16-bit halves of `even` and `odd` hold sums of at
 * most 128 × 255, so nothing carries over. Old tars (Sun's, some BSDs') added *signed* bytes, which
 * differs as soon as a name is not ASCII: that sum is tried second.
 */
export function checkHeader(block: Buffer, at: number, view: DataView): HeaderCheck {
  let even = 0
  let odd = 0
  for (let i = at; i < at + BLOCK; i += 4) {
    const word = view.getInt32(i, true)
    even += word & 0x00ff00ff
    odd += (word >>> 8) & 0x00ff00ff
  }
  let sum = (even & 0xffff) + (even >>> 16) + (odd & 0xffff) + (odd >>> 16)
  if (sum === 0) return 'zero'
  let field = 0
  let digits = 0
  for (let i = at + CHECKSUM; i < at + CHECKSUM + CHECKSUM_LENGTH; i++) {
    const byte = block[i]!
    sum += SPACE - byte
    if (byte >= 0x30 && byte <= 0x37) {
      field = field * 8 + byte - 0x30
      digits++
    } else if (digits > 0) {
      sum += restOfField(block, i + 1, at + CHECKSUM + CHECKSUM_LENGTH)
      break
    } else if (byte !== SPACE && byte !== 0) return 'bad'
  }
  if (digits === 0) return 'bad'
  return field === sum || field === signedSum(block, at) ? 'good' : 'bad'
}

/**
 * Whether bytes begin like a tar: a header with a good checksum, or the zeros that a tar of no
 * entries consists of. Their name says nothing.
 */
export function looksLikeTar(head: Buffer): boolean {
  return head.length >= BLOCK && checkHeader(head, 0, new DataView(head.buffer, head.byteOffset, BLOCK)) !== 'bad'
}

function restOfField(block: Buffer, from: number, to: number): number {
  let sum = 0
  for (let i = from; i < to; i++) sum += SPACE - block[i]!
  return sum
}

function signedSum(block: Buffer, at: number): number {
  let sum = 0
  for (let i = 0; i < BLOCK; i++)
    sum += i >= CHECKSUM && i < CHECKSUM + CHECKSUM_LENGTH ? SPACE : (block[at + i]! << 24) >> 24
  return sum
}

/**
 * A number field: octal with any padding of spaces and NULs, or base-256 (first bit set, second bit
 * the sign; GNU and star). Beyond 2^53 it is refused: no size or time of use lies there.
 */
export function parseNumber(block: Buffer, at: number, length: number, what: string): number {
  const end = at + length
  const first = block[at]!
  if (first & 0x80) {
    // Two's complement with the top bit as the mark; folding the complement keeps the value
    // positive on the way.
    const negative = (first & 0x40) !== 0
    const flip = negative ? 0xff : 0
    let value = (first ^ flip) & 0x7f
    for (let i = at + 1; i < end; i++) value = value * 256 + (block[i]! ^ flip)
    if (value >= Number.MAX_SAFE_INTEGER)
      throw new StrataError('archive_invalid', `a tar header's ${what} is too large`)
    return negative ? -1 - value : value
  }
  let i = at
  while (i < end && (block[i] === SPACE || block[i] === 0)) i++
  let value = 0
  for (; i < end; i++) {
    const digit = block[i]! - 0x30
    if (digit < 0 || digit > 7) break
    value = value * 8 + digit
  }
  for (; i < end; i++) {
    if (block[i] === 0) break // what follows a NUL is no part of the text
    if (block[i] !== SPACE) throw new StrataError('archive_invalid', `a tar header's ${what} is not a number`)
  }
  return value
}

/** The bytes up to the first NUL, as a view. */
function textField(block: Buffer, at: number, length: number): Buffer {
  if (block[at] === 0) return NO_BYTES
  let end = at + 1
  while (end < at + length && block[end] !== 0) end++
  return block.subarray(at, end)
}

type HeaderFormat = 'v7' | 'ustar' | 'gnu'

/**
 * POSIX says "ustar\0"; GNU's own is "ustar \0", and there the prefix field holds times and the
 * sparse map instead.
 */
function headerFormat(block: Buffer, at: number): HeaderFormat {
  const p = at + MAGIC
  if (
    block[p] !== 0x75 ||
    block[p + 1] !== 0x73 ||
    block[p + 2] !== 0x74 ||
    block[p + 3] !== 0x61 ||
    block[p + 4] !== 0x72
  )
    return 'v7'
  if (block[p + 5] === 0) return 'ustar'
  return block[p + 5] === SPACE && block[p + 6] === SPACE ? 'gnu' : 'v7'
}

/**
 * Fills `entry` from the header alone and returns its type flag; the size is what the field says.
 */
export function parseHeader(block: Buffer, at: number, entry: TarEntry, path: Buffer): number {
  const format = headerFormat(block, at)
  entry.path = textField(block, at + NAME, NAME_LENGTH)
  if (format === 'ustar' && block[at + PREFIX] !== 0) entry.path = joinPrefix(block, at, entry.path, path)
  entry.link = textField(block, at + LINK, NAME_LENGTH)
  entry.mode = parseNumber(block, at + 100, 8, 'mode') & 0o7777
  entry.uid = parseNumber(block, at + 108, 8, 'uid')
  entry.gid = parseNumber(block, at + 116, 8, 'gid')
  entry.storedSize = parseNumber(block, at + 124, 12, 'size')
  entry.mtime = parseNumber(block, at + 136, 12, 'mtime')
  entry.mtimeNanos = 0
  const flag = block[at + 156]!
  const isDevice = flag === 0x33 || flag === 0x34
  // v7 has no such fields, and some writers leave rubbish in them where they mean nothing.
  entry.devMajor = isDevice && format !== 'v7' ? parseNumber(block, at + 329, 8, 'device number') : 0
  entry.devMinor = isDevice && format !== 'v7' ? parseNumber(block, at + 337, 8, 'device number') : 0
  return flag
}

/**
 * `prefix/name`, written into `scratch`. star's prefix is shorter, for its times stand behind it.
 */
function joinPrefix(block: Buffer, at: number, name: Buffer, scratch: Buffer): Buffer {
  const isStar = block.toString('latin1', at + STAR_TRAILER, at + BLOCK) === 'tar\0'
  const prefix = textField(block, at + PREFIX, isStar ? 131 : 155)
  scratch.set(prefix, 0)
  scratch[prefix.length] = 0x2f
  scratch.set(name, prefix.length + 1)
  return scratch.subarray(0, prefix.length + 1 + name.length)
}
