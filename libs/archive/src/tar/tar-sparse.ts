import { StrataError } from '@strata/base'
import { BLOCK, parseNumber } from './tar-header.js'
import type { SparsePiece } from './tar-entry.js'

/**
 * GNU's sparse files (GNU tar manual, "Storing Sparse Files"): the map of the old format, of PAX
 * 1.0, and what any map must satisfy.
 */

const OLD_AT = 386,
  OLD_COUNT = 4,
  OLD_EXTENDED_AT = 482,
  OLD_REAL_SIZE_AT = 483
const EXTENSION_COUNT = 21,
  EXTENSION_MORE_AT = 504,
  PAIR = 24

const invalid = (why: string): StrataError =>
  new StrataError('archive_invalid', `a sparse file's map is not valid: ${why}`)

/** The pairs in a type `S` header; `more` says that an extension block follows. */
export function oldSparseHeader(block: Buffer, at: number): { numbers: number[]; realSize: number; more: boolean } {
  const numbers: number[] = []
  readPairs(block, at + OLD_AT, OLD_COUNT, numbers)
  return {
    numbers,
    realSize: parseNumber(block, at + OLD_REAL_SIZE_AT, 12, 'real size'),
    more: block[at + OLD_EXTENDED_AT] !== 0,
  }
}

/** Appends an extension block's pairs; true if another block follows. */
export function oldSparseExtension(block: Buffer, at: number, numbers: number[]): boolean {
  readPairs(block, at, EXTENSION_COUNT, numbers)
  return block[at + EXTENSION_MORE_AT] !== 0
}

function readPairs(block: Buffer, at: number, count: number, numbers: number[]): void {
  for (let i = 0; i < count; i++) {
    const p = at + i * PAIR
    if (block[p] === 0) return
    numbers.push(parseNumber(block, p, 12, 'sparse offset'), parseNumber(block, p + 12, 12, 'sparse size'))
  }
}

/**
 * PAX 1.0: decimal numbers, a line each, in front of the data: how many pairs, then the pairs;
 * padded to a whole block. Fed block by block.
 */
export class SparseMapReader {
  readonly numbers: number[] = []
  #expected = -1
  #value = 0
  #digits = 0

  /** True when the map is complete; the data begins with the next block. */
  block(block: Buffer, at: number): boolean {
    for (let i = at; i < at + BLOCK; i++) {
      const digit = block[i]! - 0x30
      if (digit >= 0 && digit <= 9 && this.#digits < 16) {
        this.#value = this.#value * 10 + digit
        this.#digits++
        continue
      }
      if (block[i] !== 0x0a || this.#digits === 0) throw invalid('a line is not a number')
      if (this.#expected < 0) this.#expected = 2 * this.#value
      else this.numbers.push(this.#value)
      this.#value = 0
      this.#digits = 0
      if (this.numbers.length === this.#expected) return true
    }
    return false
  }
}

/**
 * The pieces of a map, proven: whole numbers, ascending, apart, inside the file, and together
 * exactly the stored bytes. Empty pieces, which writers use to mark the end, are left out.
 */
export function sparsePieces(
  numbers: readonly number[],
  realSize: number,
  storedSize: number,
  dataOffset: number,
): SparsePiece[] {
  if (numbers.length % 2 !== 0) throw invalid('a piece has no size')
  const pieces: SparsePiece[] = []
  let end = 0
  let stored = 0
  for (let i = 0; i < numbers.length; i += 2) {
    const offset = numbers[i]!
    const size = numbers[i + 1]!
    if (!(offset >= end) || !(size >= 0) || !(offset + size <= realSize))
      throw invalid('its pieces overlap or leave the file')
    end = offset + size
    if (size > 0) pieces.push({ offset, size, dataOffset: dataOffset + stored })
    stored += size
  }
  if (stored !== storedSize) throw invalid('its pieces do not add up to the stored bytes')
  return pieces
}
