import { randomBytes } from 'node:crypto'
import { constants, zstdCompressSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { CHUNK } from './chunks.js'
import { Unzstd } from './unzstd.js'

const MEBIBYTE = 1024 * 1024
const skippable = (length: number) =>
  Buffer.concat([
    Buffer.from([0x50, 0x2a, 0x4d, 0x18]),
    Buffer.from(Uint32Array.of(length).buffer),
    Buffer.alloc(length, 7),
  ])
const withSum = (plain: Buffer | string) => zstdCompressSync(plain, { params: { [constants.ZSTD_c_checksumFlag]: 1 } })

function unzstd(packed: Buffer, { piece = 300_000, maxRatio = 1000 } = {}): Buffer {
  using unpacker = new Unzstd({ maxRatio })
  const out: Buffer[] = []
  // Copies: a chunk is overwritten by the next but one.
  for (let at = 0; at < packed.length; at += piece)
    for (const chunk of unpacker.take(packed.subarray(at, at + piece))) out.push(Buffer.from(chunk))
  for (const chunk of unpacker.end()) out.push(Buffer.from(chunk))
  return Buffer.concat(out)
}

describe('a zstd stream', () => {
  const plain = Buffer.concat([randomBytes(700_000), Buffer.alloc(5 * MEBIBYTE), randomBytes(10)])
  const packed = withSum(plain)

  it.each([1, 13, 4096, Infinity])('comes out, whatever the pieces it came in: of %s bytes', (piece) => {
    const small =
      piece === 1
        ? Buffer.concat([withSum('abc'), skippable(30), withSum(randomBytes(5000))])
        : Buffer.concat([packed, skippable(10_000), packed])
    const expected = unzstd(small)
    expect(piece === 1 || expected.equals(Buffer.concat([plain, plain]))).toBe(true)
    expect(unzstd(small, { piece: Math.min(piece, small.length) }).equals(expected)).toBe(true)
  })

  it.each([-1, 0, 1])('that ends near a full chunk: %i bytes from it', (more) => {
    const near = randomBytes(2 * CHUNK + more)
    expect(unzstd(withSum(near)).equals(near)).toBe(true)
    expect(unzstd(Buffer.concat([withSum(near), withSum(near)])).equals(Buffer.concat([near, near]))).toBe(true)
  })

  it('of very many frames, most of them empty', () => {
    const frames = Array.from({ length: 300_000 }, (_, n) => (n % 1000 === 0 ? withSum(`${n} `) : EMPTY))
    expect(unzstd(Buffer.concat(frames)).toString()).toBe(
      Array.from({ length: 300 }, (_, n) => `${n * 1000} `).join(''),
    )
  })

  it.each<[string, Buffer, string]>([
    ['cut', packed.subarray(0, -1), 'is cut short'],
    ['of nothing', Buffer.alloc(0), 'is cut short'],
    ['cut in a second header', Buffer.concat([packed, packed.subarray(0, 5)]), 'is cut short'],
    ['cut in a skippable frame', Buffer.concat([packed, skippable(1000).subarray(0, -1)]), 'is cut short'],
    ['with something behind it', Buffer.concat([packed, Buffer.from('something')]), 'is damaged'],
    ['with zeros behind it', Buffer.concat([packed, Buffer.alloc(1000)]), 'is damaged'],
    ['with a wrong check sum', Buffer.concat([packed.subarray(0, -4), Buffer.alloc(4, 1)]), 'is damaged'],
    // A frame header without size whose window descriptor says 2 GiB, then an empty last block.
    ['with a window above 128 MiB', Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 1, 0, 0]), 'is damaged'],
  ])('%s is refused', (_what, bytes, how) => {
    for (const piece of [1 + bytes.length, 7])
      expect(() => unzstd(bytes, { piece })).toThrow(
        expect.objectContaining({ code: 'layer_invalid', message: `the layer's zstd stream ${how}` }) as Error,
      )
  })

  it('with a window of 128 MiB is read', () => {
    expect(unzstd(Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 1, 0, 0])).length).toBe(0)
  })

  it('of zeros is refused beyond its ratio, before it is unpacked', () => {
    const bomb = zstdCompressSync(Buffer.alloc(64 * MEBIBYTE))
    expect(() => unzstd(bomb, { maxRatio: 100 })).toThrow(expect.objectContaining({ code: 'limit_exceeded' }) as Error)
    expect(unzstd(bomb, { maxRatio: 50_000 }).length).toBe(64 * MEBIBYTE)
  })
})

const EMPTY = withSum('')
