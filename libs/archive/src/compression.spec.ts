import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { decompressor, detectCompression, type DecompressorOptions } from './index.js'

async function unpack(compression: 'gzip' | 'zstd', pieces: Uint8Array[], options: DecompressorOptions = {}): Promise<Buffer> {
  const out: Buffer[] = []
  await pipeline(Readable.from(pieces, { objectMode: true }), decompressor(compression, options), async (source: AsyncIterable<Buffer>) => {
    for await (const chunk of source) out.push(chunk)
  })
  return Buffer.concat(out)
}
const bytesOf = (packed: Buffer): Buffer[] => Array.from({ length: packed.length }, (_, i) => packed.subarray(i, i + 1))
const SKIPPABLE = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4])

describe('detectCompression', () => {
  it('goes by content', () => {
    expect(detectCompression(gzipSync(''))).toBe('gzip')
    expect(detectCompression(zstdCompressSync(''))).toBe('zstd')
    expect(detectCompression(SKIPPABLE)).toBe('zstd')
    expect(detectCompression(Buffer.from('manifest.json'))).toBe('none')
    expect(detectCompression(Buffer.alloc(0))).toBe('none')
  })
})

for (const compression of ['gzip', 'zstd'] as const) {
  const pack = compression === 'gzip' ? gzipSync : zstdCompressSync
  describe(`decompressor(${compression})`, () => {
    const plain = Buffer.concat([randomBytes(300_000), Buffer.alloc(3_000_000), randomBytes(10)])

    it('reads members one after another, however they are cut', async () => {
      const many = Buffer.concat([pack(plain), pack(''), pack('b'), ...(compression === 'zstd' ? [SKIPPABLE] : []), pack(plain)])
      const expected = Buffer.concat([plain, Buffer.from('b'), plain])
      expect((await unpack(compression, [many])).equals(expected)).toBe(true)
      expect((await unpack(compression, [many.subarray(0, 70_000), many.subarray(70_000)])).equals(expected)).toBe(true)
      const small = Buffer.concat([pack('ab'), pack('c'), pack('')])
      expect((await unpack(compression, bytesOf(small))).toString()).toBe('abc')
      for (let cut = 1; cut < small.length; cut++) expect((await unpack(compression, [small.subarray(0, cut), small.subarray(cut)])).toString()).toBe('abc')
    })

    it('says where a stream is cut or damaged', async () => {
      const packed = pack(plain)
      for (const cut of [packed.length - 1, 1000, 3, 0]) {
        await expect(unpack(compression, [packed.subarray(0, cut)])).rejects.toMatchObject({ code: 'layer_invalid' })
        await expect(unpack(compression, [packed.subarray(0, cut)], { of: 'archive' })).rejects.toMatchObject({ code: 'archive_truncated' })
      }
      await expect(unpack(compression, [Buffer.concat([pack('a'), packed.subarray(0, 50)])], { of: 'archive' })).rejects.toMatchObject({ code: 'archive_truncated' })
      for (const rubbish of [[Buffer.concat([packed, Buffer.from('rubbish')])], [packed, Buffer.from('rubbish')]]) {
        await expect(unpack(compression, rubbish)).rejects.toMatchObject({ code: 'layer_invalid' })
        await expect(unpack(compression, rubbish, { of: 'archive' })).rejects.toMatchObject({ code: 'archive_invalid' })
      }
    })

    it('refuses a bomb', async () => {
      const bomb = pack(Buffer.alloc(20 * 1024 * 1024))
      await expect(unpack(compression, [bomb], { maxRatio: 100 })).rejects.toMatchObject({ code: 'limit_exceeded' })
      expect(await unpack(compression, [pack(Buffer.alloc(1024 * 1024))], { maxRatio: 100 })).toHaveLength(1024 * 1024)
    })
  })
}

describe('decompressor', () => {
  it('ignores zeros behind the last gzip member', async () => {
    const packed = gzipSync('abc')
    expect((await unpack('gzip', [Buffer.concat([packed, Buffer.alloc(1000)])])).toString()).toBe('abc')
    expect((await unpack('gzip', [packed, Buffer.alloc(1000), Buffer.alloc(70_000)])).toString()).toBe('abc')
  })

  it('refuses a zstd window above 128 MiB', async () => {
    // Magic, a frame header without size whose window descriptor says 2 GiB, then an empty last block.
    const frame = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 1, 0, 0])
    await expect(unpack('zstd', [frame])).rejects.toMatchObject({ code: 'layer_invalid' })
  })
})
