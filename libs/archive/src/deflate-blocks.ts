/**
 * Where in deflate's stream of bits a block with codes of its own may begin (RFC 1951, 3.2.7), `undefined` if nowhere between `from` and `to`: bits counted from the first byte, the least significant one first. Its header is read
 * in full, so bits that merely happen to lie so are one in many millions; but bytes of *another* deflate stream, stored in this one, look the same. What lies at the end of `bytes` and may be cut is not found.
 */
export function findBlock(bytes: Uint8Array, from: number, to: number): number | undefined {
  const end = Math.min(to, 8 * bytes.length - LONGEST_HEADER)
  for (let at = from; at < end; at++) {
    const bits = peek(bytes, at)
    // Not the last block of its member, codes of its own; at most 286 and 30 of them.
    if ((bits & 7) !== 4 || ((bits >>> 3) & 31) > 29 || ((bits >>> 8) & 31) > 29) continue
    if (isHeader(bytes, at, ((bits >>> 3) & 31) + 257, ((bits >>> 8) & 31) + 1, ((bits >>> 13) & 15) + 4)) return at
  }
  return undefined
}

/** 17 bits, 19 lengths of 3, and 316 lengths in at most 14 bits each. */
const LONGEST_HEADER = 17 + 19 * 3 + 316 * 14 + 64
/** What a code of a length takes of 128. */
const SPACE = Uint8Array.of(0, 64, 32, 16, 8, 4, 2, 1)
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]

/** At least 25 bits from `at` on. */
function peek(bytes: Uint8Array, at: number): number {
  const byte = at >>> 3
  return (bytes[byte]! | (bytes[byte + 1]! << 8) | (bytes[byte + 2]! << 16) | (bytes[byte + 3]! << 24)) >>> (at & 7)
}

const codeLengths = new Uint8Array(19)
const counts = new Uint16Array(8)
const firstCodes = new Uint16Array(8)
const lengths = new Uint8Array(316)

function isHeader(bytes: Uint8Array, at: number, literals: number, distances: number, codes: number): boolean {
  // Most bits fail here.
  let space = 0
  let next = at + 17
  for (let code = 0; code < codes && space <= 128; code++, next += 3) space += SPACE[peek(bytes, next) & 7]!
  if (space !== 128) return false
  codeLengths.fill(0)
  counts.fill(0)
  for (let code = 0; code < codes; code++) {
    const length = peek(bytes, at + 17 + 3 * code) & 7
    codeLengths[ORDER[code]!] = length
    if (length > 0) counts[length]!++
  }
  let first = 0
  for (let length = 1; length <= 7; length++) {
    first = (first + counts[length - 1]!) << 1
    firstCodes[length] = first
  }
  const total = literals + distances
  for (let have = 0; have < total; ) {
    const symbol = decode(peek(bytes, next))
    next += codeLengths[symbol]!
    if (symbol < 16) {
      lengths[have++] = symbol
      continue
    }
    const extra = peek(bytes, next)
    const [value, count, used] = symbol === 16 ? [have === 0 ? -1 : lengths[have - 1]!, 3 + (extra & 3), 2] : symbol === 17 ? [0, 3 + (extra & 7), 3] : [0, 11 + (extra & 127), 7]
    if (value < 0 || have + count > total) return false
    lengths.fill(value, have, (have += count))
    next += used
  }
  // A block has an end.
  return lengths[256] !== 0 && isComplete(0, literals, false) && isComplete(literals, total, true)
}

/** Canonical codes, the first bit first: of one length they follow each other in the order of their symbols. */
function decode(bits: number): number {
  let code = 0
  for (let length = 1; length <= 7; length++) {
    code = (code << 1) | ((bits >>> (length - 1)) & 1)
    let rank = code - firstCodes[length]!
    if (rank < 0 || rank >= counts[length]!) continue
    for (let symbol = 0; symbol < 19; symbol++) if (codeLengths[symbol] === length && rank-- === 0) return symbol
  }
  return 0
}

/** zlib takes nothing else, but for distances of one code only, or none. */
function isComplete(from: number, to: number, mayBeSingle: boolean): boolean {
  let space = 0
  let used = 0
  for (let symbol = from; symbol < to; symbol++) {
    if (lengths[symbol] === 0) continue
    space += 0x8000 >>> lengths[symbol]!
    used++
  }
  return space === 0x8000 || (mayBeSingle && used <= 1)
}
