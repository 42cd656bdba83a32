import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { decompressor, detectCompression, type DecompressorOptions } from '../index.js'

async function unpack(
  compression: 'gzip' | 'zstd',
  pieces: Uint8Array[],
  options: DecompressorOptions = {},
): Promise<Buffer> {
  const out: Buffer[] = []
  await pipeline(
    Readable.from(pieces, { objectMode: true }),
    decompressor(compression, options),
    async (source: AsyncIterable<Buffer>) => {
      for await (const chunk of source) out.push(chunk)
    },
  )
  return Buffer.concat(out)
}
const bytesOf = (packed: Buffer): Buffer[] => Array.from({ length: packed.length }, (_, i) => packed.subarray(i, i + 1))
const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
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
      const many = Buffer.concat([
        pack(plain),
        pack(''),
        pack('b'),
        ...(compression === 'zstd' ? [SKIPPABLE] : []),
        pack(plain),
      ])
      const expected = Buffer.concat([plain, Buffer.from('b'), plain])
      expect((await unpack(compression, [many])).equals(expected)).toBe(true)
      expect((await unpack(compression, [many.subarray(0, 70_000), many.subarray(70_000)])).equals(expected)).toBe(true)
      const small = Buffer.concat([pack('ab'), pack('c'), pack('')])
      expect((await unpack(compression, bytesOf(small))).toString()).toBe('abc')
      for (let cut = 1; cut < small.length; cut++)
        expect((await unpack(compression, [small.subarray(0, cut), small.subarray(cut)])).toString()).toBe('abc')
    })

    it('says where a stream is cut or damaged', async () => {
      const packed = pack(plain)
      for (const cut of [packed.length - 1, 1000, 3, 0]) {
        await expect(unpack(compression, [packed.subarray(0, cut)])).rejects.toMatchObject({ code: 'layer_invalid' })
        await expect(unpack(compression, [packed.subarray(0, cut)], { of: 'archive' })).rejects.toMatchObject({
          code: 'archive_truncated',
        })
      }
      await expect(
        unpack(compression, [Buffer.concat([pack('a'), packed.subarray(0, 50)])], { of: 'archive' }),
      ).rejects.toMatchObject({ code: 'archive_truncated' })
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

  it('reads zstd:chunked: a frame for each piece of a file, the list of all and where that lies in skippable frames', async () => {
    const pieces = Array.from({ length: 50 }, (_, i) => randomBytes(i * 1000))
    const skippable = (content: Buffer) =>
      Buffer.concat([Buffer.from([0x50, 0x2a, 0x4d, 0x18]), uint32(content.length), content])
    const list = zstdCompressSync(JSON.stringify({ version: 1, entries: [] }))
    const packed = Buffer.concat([
      ...pieces.map((piece) => zstdCompressSync(piece)),
      skippable(list),
      skippable(Buffer.concat([Buffer.alloc(56), Buffer.from('GNUlInUx')])),
    ])
    expect((await unpack('zstd', [packed])).equals(Buffer.concat(pieces))).toBe(true)
    expect(
      (await unpack('zstd', [packed.subarray(0, -70), packed.subarray(-70, -3), packed.subarray(-3)])).equals(
        Buffer.concat(pieces),
      ),
    ).toBe(true)
  })

  it('reads eStargz: a gzip member for each file, the list of all, and a last one of no bytes that says in its header where that begins', async () => {
    const pieces = Array.from({ length: 50 }, (_, i) => randomBytes(i * 1000))
    const extra = Buffer.concat([Buffer.from('SG'), Buffer.from([22, 0]), Buffer.from('00000000000000ffSTARGZ')])
    const footer = Buffer.concat([
      Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, extra.length, 0]),
      extra,
      Buffer.from([1, 0, 0, 0xff, 0xff]),
      Buffer.alloc(8),
    ])
    expect(footer).toHaveLength(51)
    const packed = Buffer.concat([...pieces.map((piece) => gzipSync(piece)), gzipSync('{"version":1}'), footer])
    expect((await unpack('gzip', [packed])).equals(Buffer.concat([...pieces, Buffer.from('{"version":1}')]))).toBe(true)
    expect(
      (await unpack('gzip', [packed.subarray(0, -51), packed.subarray(-51)])).equals(
        Buffer.concat([...pieces, Buffer.from('{"version":1}')]),
      ),
    ).toBe(true)
  })

  it('refuses a zstd window above 128 MiB', async () => {
    // Magic, a frame header without size whose window descriptor says 2 GiB, then an empty last
    // block.
    const frame = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 1, 0, 0])
    await expect(unpack('zstd', [frame])).rejects.toMatchObject({ code: 'layer_invalid' })
  })
})
