import { execFileSync } from 'node:child_process'
import { createCipheriv } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { archiveDecompressor, detectArchiveCompression, type ArchiveCompression } from './archive-compression.js'

const MOST = 256 * 1024 * 1024
const pack = (compression: 'xz' | 'bzip2', bytes: Buffer | string, ...args: string[]) =>
  execFileSync(compression, ['--compress', '--stdout', ...args], { input: bytes, maxBuffer: MOST, stdio: 'pipe' })
async function unpack(compression: ArchiveCompression, pieces: Buffer[]): Promise<Buffer> {
  const out: Buffer[] = []
  await pipeline(
    Readable.from(pieces, { objectMode: true }),
    archiveDecompressor(compression),
    async (source: AsyncIterable<Buffer>) => {
      for await (const chunk of source) out.push(chunk)
    },
  )
  return Buffer.concat(out)
}
const bytesOf = (packed: Buffer): Buffer[] => Array.from({ length: packed.length }, (_, i) => packed.subarray(i, i + 1))
/** Processes of ours that unpack. */
const programs = () =>
  readdirSync('/proc').filter((pid) => {
    try {
      return (
        /^\d+ \((?:xz|bzip2)\) [^Z] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1')) &&
        readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]!.split(' ')[1] === String(process.pid)
      )
    } catch {
      return false
    }
  })

it('the compression of an archive goes by its content', () => {
  expect(detectArchiveCompression(pack('xz', ''))).toBe('xz')
  expect(detectArchiveCompression(pack('bzip2', ''))).toBe('bzip2')
  expect(detectArchiveCompression(pack('bzip2', 'x'))).toBe('bzip2')
  expect(detectArchiveCompression(gzipSync(''))).toBe('gzip')
  expect(detectArchiveCompression(zstdCompressSync(''))).toBe('zstd')
  for (const name of ['BZh9', 'BZh91AY.tar', '\xfd7zXZx', ''])
    expect(detectArchiveCompression(Buffer.from(name.padEnd(100, '\0'), 'latin1'))).toBe('none')
})

/** The same in each run: some damages of bzip2's blocks look as if the stream were cut short. */
function noise(bytes: number): Buffer {
  return createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16)).update(Buffer.alloc(bytes))
}

describe.each(['xz', 'bzip2'] as const)('an archive packed by %s', (compression) => {
  const plain = Buffer.concat([noise(300_000), Buffer.alloc(3_000_000), noise(10)])

  it('comes out as it was, in one stream or many, however it is cut', async () => {
    const many = Buffer.concat([
      pack(compression, plain),
      pack(compression, ''),
      pack(compression, 'b'),
      pack(compression, plain),
    ])
    expect((await unpack(compression, [many])).equals(Buffer.concat([plain, Buffer.from('b'), plain]))).toBe(true)
    expect(
      (await unpack(compression, bytesOf(Buffer.concat([pack(compression, 'ab'), pack(compression, 'c')])))).toString(),
    ).toBe('abc')
  })

  it('is refused where it is cut or damaged', async () => {
    const packed = pack(compression, plain)
    for (const cut of [packed.length - 1, 1000, 12])
      await expect(unpack(compression, [packed.subarray(0, cut)]), `${cut}`).rejects.toMatchObject({
        code: 'archive_truncated',
        message: `the archive's ${compression} stream is cut short`,
      })
    const damaged = Buffer.from(packed)
    damaged.fill(0xaa, 100_000, 100_100)
    for (const bad of [damaged, Buffer.concat([packed, noise(1000)])]) {
      await expect(unpack(compression, [bad])).rejects.toMatchObject({
        code: 'archive_invalid',
        message: expect.stringContaining(`the archive's ${compression} stream is damaged: `) as string,
      })
    }
  })

  it('is refused where it is a bomb', async () => {
    await expect(unpack(compression, [pack(compression, Buffer.alloc(128 * 1024 * 1024), '-1')])).rejects.toMatchObject(
      { code: 'limit_exceeded', message: 'the archive unpacks to more than 1000 times its size' },
    )
  })

  it('leaves no process behind when nobody wants the rest', async () => {
    const stream = archiveDecompressor(compression)
    stream.on('error', () => undefined)
    stream.write(pack(compression, plain).subarray(0, 1000))
    await expect.poll(programs).toHaveLength(1)
    stream.destroy()
    await once(stream, 'close')
    await expect.poll(programs).toEqual([])
  })
})

it('an xz dictionary that needs too much memory is refused', async () => {
  await expect(unpack('xz', [pack('xz', 'x', '--lzma2=dict=512MiB')])).rejects.toMatchObject({
    code: 'limit_exceeded',
    message: expect.stringContaining('bytes of memory to unpack') as string,
  })
})

it('a machine without the program says so', async () => {
  const { PATH } = process.env
  process.env['PATH'] = '/nowhere'
  try {
    await expect(unpack('xz', [Buffer.alloc(10)])).rejects.toMatchObject({
      code: 'unsupported',
      message: expect.stringContaining('install xz-utils') as string,
    })
  } finally {
    process.env['PATH'] = PATH
  }
})
