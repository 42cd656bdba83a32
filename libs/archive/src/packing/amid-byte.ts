/**
 * A raw deflate stream as one that begins with a byte. Its first block begins at bit `bit`, from 1
 * to 7, of the first byte, counted from the lowest (RFC 1951, 3.1.1). What is below that bit is
 * replaced by blocks without content that end there. So nothing is moved: also stored blocks, which
 * lie at whole bytes, are where they were.
 *
 * zlib has `inflatePrime` for this. Node's streams do not, and they inflate in another thread.
 */
export async function* fromAmidByte(bytes: AsyncIterable<Buffer>, bit: number): AsyncGenerator<Buffer> {
  let isBegun = false
  for await (const piece of bytes) {
    if (isBegun || piece.length === 0) {
      yield piece
      continue
    }
    isBegun = true
    const before = blocksOfNothing(bit)
    const first = (piece[0]! & (0xff << bit)) | before.at(-1)!
    yield Buffer.concat([before.subarray(0, -1), Buffer.from([first])])
    yield piece.subarray(1)
  }
}

/** Blocks that end at that bit of the last byte; the bits above are zero. */
function blocksOfNothing(bit: number): Buffer {
  // Each of the fixed ones adds 2 bits modulo eight, the dynamic one 7.
  const blocks = bit % 2 === 0 ? FIXED.repeat(bit / 2) : DYNAMIC + FIXED.repeat(((bit + 1) / 2) % 4)
  const bytes = Buffer.alloc(Math.ceil(blocks.length / 8))
  for (let at = 0; at < blocks.length; at++) if (blocks[at] === '1') bytes[at >>> 3]! |= 1 << (at & 7)
  return bytes
}

/** In the order of the stream: not the last block, type 1, the code that ends a block. */
const FIXED = '0' + '10' + '0000000'
/**
 * RFC 1951, 3.2.7: not the last block, type 2. 257 literal codes, one distance code, 19 code
 * lengths: one bit for 18 (many zeros), two for 0 and 1. Then the lengths: 138 and 118 zeros, one
 * bit for the code that ends a block, one bit for a distance that nobody uses. Then that code.
 */
const DYNAMIC =
  '0' +
  '01' +
  '00000' +
  '00000' +
  '1111' +
  // Of 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15, the lowest bit first.
  ['000', '000', '100', '010', ...Array<string>(13).fill('000'), '010', '000'].join('') +
  // The codes of 18, 0, 1 are 0, 10, 11; extra bits of 18 are zeros less 11, the lowest bit first.
  '0' +
  '1111111' +
  '0' +
  '1101011' +
  '11' +
  '11' +
  '0'
