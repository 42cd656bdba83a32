import { createInflateRaw, deflateRawSync, inflateRawSync } from 'node:zlib'
import { buffer } from 'node:stream/consumers'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { describe, expect, it } from 'vitest'
import { fromAmidByte } from './amid-byte.js'

/** Moved up by so many bits; those below are set. */
function moved(bytes: Buffer, bit: number): Buffer {
  const bits = [...Array<number>(bit).fill(1), ...[...bytes].flatMap((byte) => bitsOf(byte))]
  while (bits.length % 8 > 0) bits.push(0)
  return Buffer.from(
    Array.from({ length: bits.length / 8 }, (_, at) =>
      bits.slice(8 * at, 8 * at + 8).reduce((byte, each, place) => byte | (each << place), 0),
    ),
  )
}
const bitsOf = (byte: number): number[] => Array.from({ length: 8 }, (_, place) => (byte >> place) & 1)

async function inflated(bytes: Buffer[], bit: number, dictionary: Buffer): Promise<Buffer> {
  const plain = createInflateRaw({ dictionary })
  const [result] = await Promise.all([
    buffer(plain),
    pipeline(Readable.from(bytes), (source: AsyncIterable<Buffer>) => fromAmidByte(source, bit), plain),
  ])
  return result
}

describe.each([1, 2, 3, 4, 5, 6, 7])('a deflate stream from bit %i of a byte', (bit) => {
  const dictionary = Buffer.from('what was before, and is referred to'.repeat(100))
  const text = Buffer.from('what was before, and is referred to, once more'.repeat(9))

  it('says the same as one from a byte, and may refer to what was before', async () => {
    const packed = deflateRawSync(text, { dictionary })
    expect(packed.length).toBeLessThan(80)
    expect(inflateRawSync(packed, { dictionary }).equals(text)).toBe(true)
    expect((await inflated([moved(packed, bit)], bit, dictionary)).equals(text)).toBe(true)
  })

  it('in pieces of any size', async () => {
    const all = moved(deflateRawSync(text, { dictionary }), bit)
    const pieces = [Buffer.alloc(0), ...Array.from(all, (byte) => Buffer.from([byte]))]
    expect((await inflated(pieces, bit, dictionary)).equals(text)).toBe(true)
  })
})

it('of nothing is nothing', async () => {
  const pieces = []
  for await (const piece of fromAmidByte(Readable.from([Buffer.alloc(0)]), 3)) pieces.push(piece)
  expect(Buffer.concat(pieces).length).toBe(0)
})
