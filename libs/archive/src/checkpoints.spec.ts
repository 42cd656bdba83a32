import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { constants, gzipSync, inflateRawSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { CHECKPOINTS_HEADER, checkpointBefore, checkpointRows, CheckpointWriter, decompressor, inflateFrom, type Checkpoint } from './index.js'
import { findBlock } from './deflate-blocks.js'

const MEBIBYTE = 1024 * 1024

/** Text that packs about as well as programs do, the same each time. */
function text(length: number, seed = 1): Buffer {
  const words = Array.from({ length: 3000 }, (_, n) => createHash('sha256').update(`${seed} ${n}`).digest('base64').slice(0, 3 + (n % 9)))
  const parts: string[] = []
  let state = seed
  for (let size = 0; size < length; ) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    const word = words[(state >>> 8) % words.length]!
    parts.push(word)
    size += word.length
  }
  return Buffer.from(parts.join('').slice(0, length))
}

async function pointsOf(packed: Buffer, plain: Buffer, piece = 300_000): Promise<{ object: Buffer; points: Checkpoint[] }> {
  const writer = new CheckpointWriter()
  const pieces = Array.from({ length: Math.ceil(packed.length / piece) }, (_, at) => packed.subarray(at * piece, (at + 1) * piece))
  const out: Buffer[] = []
  await pipeline(writer.cut(Readable.from(pieces)), decompressor('gzip', { watcher: writer }), async (source: AsyncIterable<Buffer>) => {
    for await (const each of source) {
      writer.output(each)
      out.push(Buffer.from(each))
    }
  })
  expect(Buffer.concat(out).equals(plain)).toBe(true)
  const object = writer.finish()
  const points: Checkpoint[] = []
  for (let point = object && checkpointBefore(object, plain.length, plain.length); point; point = checkpointBefore(object!, point.out - 1, plain.length)) points.unshift(point)
  return { object: object ?? Buffer.alloc(0), points }
}

async function unpack(object: Buffer, { bit, out, end, window }: Checkpoint, packed: Buffer): Promise<Buffer> {
  const body = inflateFrom(Readable.from([packed.subarray(Math.floor(bit / 8))]), bit % 8, inflateRawSync(object.subarray(window.start, window.end)))
  return (await buffer(body)).subarray(0, end - out)
}

async function expectAll(object: Buffer, points: readonly Checkpoint[], packed: Buffer, plain: Buffer): Promise<void> {
  for (const point of points) {
    const part = await unpack(object, point, packed)
    expect(part.equals(plain.subarray(point.out, point.end))).toBe(true)
    expect(createHash('sha256').update(part).digest().equals(point.sha256)).toBe(true)
  }
}

describe('checkpoints of a gzip stream', () => {
  it.each([1, 6, 9])('level %i: the tar from each, as its hash says', async (level) => {
    const plain = text(12 * MEBIBYTE)
    const packed = gzipSync(plain, { level })
    const { object, points } = await pointsOf(packed, plain)
    expect(points.length).toBeGreaterThanOrEqual(1)
    expect(points.length).toBeLessThanOrEqual(3)
    expect(object.length).toBeLessThan(plain.length / 100)
    await expectAll(object, points, packed, plain)
  })

  it('are found whatever the pieces it came in, if they are not small', async () => {
    const plain = text(10 * MEBIBYTE)
    const packed = gzipSync(plain)
    const { object, points } = await pointsOf(packed, plain, 50_001)
    expect(points.length).toBeGreaterThan(0)
    await expectAll(object, points, packed, plain)
  })

  it('are none where what looks like a block is stored bytes of another stream', async () => {
    // Stored whole: nothing begins a block but what the inner stream has.
    const inner = Buffer.concat(Array.from({ length: 3 }, (_, seed) => gzipSync(text(2 * MEBIBYTE, seed + 1))))
    const plain = Buffer.concat([inner, inner, inner])
    const packed = gzipSync(plain, { level: constants.Z_NO_COMPRESSION })
    expect(findBlock(packed, 0, 8 * packed.length)).toBeDefined()
    const { points } = await pointsOf(packed, plain)
    expect(points).toEqual([])
  })

  it('are found between stored pieces, zeros and members', async () => {
    const plains = [text(5 * MEBIBYTE), randomBytes(3 * MEBIBYTE), gzipSync(text(5 * MEBIBYTE)), Buffer.alloc(20 * MEBIBYTE), text(6 * MEBIBYTE, 2)]
    const plain = Buffer.concat(plains)
    const packed = Buffer.concat([gzipSync(plain), gzipSync(text(6 * MEBIBYTE, 3))])
    const whole = Buffer.concat([plain, text(6 * MEBIBYTE, 3)])
    const { object, points } = await pointsOf(packed, whole)
    expect(points.length).toBeGreaterThanOrEqual(2)
    // One that reaches into another member ends there; its hash then says so.
    for (const point of points) {
      const part = await unpack(object, point, packed).catch(() => Buffer.alloc(0))
      const isWhole = createHash('sha256').update(part).digest().equals(point.sha256)
      expect(part.equals(whole.subarray(point.out, point.end))).toBe(isWhole)
    }
  })

  it('are not far apart, however much of the stream is at hand', async () => {
    const plain = text(40 * MEBIBYTE)
    const packed = gzipSync(plain)
    const { points } = await pointsOf(packed, plain, packed.length)
    // Four MiB, and what two pieces of 128 KiB unpack to.
    const reach = 4 * MEBIBYTE + (3 * 128 * 1024 * plain.length) / packed.length
    expect([0, ...points.map(({ out }) => out)].map((start, at) => (points[at]?.out ?? plain.length) - start).filter((distance) => distance > reach)).toEqual([])
  })

  it('of a small one are none', async () => {
    const plain = text(MEBIBYTE)
    expect((await pointsOf(gzipSync(plain), plain)).points).toEqual([])
  })
})

describe('checkpoints that are damaged', () => {
  it.each<[string, Buffer]>([
    ['short', Buffer.alloc(10)],
    ['another thing', Buffer.alloc(CHECKPOINTS_HEADER)],
    ['rows that are not there', Object.assign(Buffer.alloc(CHECKPOINTS_HEADER), { 0: 0 })],
  ])('%s: are refused', (_what, bytes) => expect(() => checkpointRows(bytes)).toThrow(expect.objectContaining({ code: 'corrupt' }) as Error))
})
