import { createHash, randomBytes } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { Readable } from 'node:stream'
import { constants, gunzipSync, gzipSync, inflateRawSync } from 'node:zlib'
import { checkpointBefore, fromAmidByte, type Checkpoint } from '@strata/archive'
import { describe, expect, it } from 'vitest'
import { Gunzip } from './gunzip.js'

const MEBIBYTE = 1024 * 1024

/** Text that packs about as well as programs do, the same each time. */
function text(length: number, seed = 1): Buffer {
  const words = Array.from({ length: 3000 }, (_, n) =>
    createHash('sha256')
      .update(`${seed} ${n}`)
      .digest('base64')
      .slice(0, 3 + (n % 9)),
  )
  const parts: string[] = []
  let state = seed
  for (let size = 0; size < length;) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    const word = words[(state >>> 8) % words.length]!
    parts.push(word)
    size += word.length
  }
  return Buffer.from(parts.join('').slice(0, length))
}

/** What comes of it, given in pieces of a size, and the checkpoints. */
function gunzip(
  packed: Buffer,
  { piece = 300_000, maxRatio = 1000, findsCheckpoints = true } = {},
): { plain: Buffer; checkpoints: Buffer | undefined } {
  using unpacker = new Gunzip({ maxRatio, findsCheckpoints })
  const out: Buffer[] = []
  // Copies: a chunk is overwritten by the next but one.
  for (let at = 0; at < packed.length; at += piece)
    for (const chunk of unpacker.take(packed.subarray(at, at + piece))) out.push(Buffer.from(chunk))
  for (const chunk of unpacker.end()) out.push(Buffer.from(chunk))
  return { plain: Buffer.concat(out), checkpoints: unpacker.checkpoints() }
}

function pointsOf(object: Buffer | undefined, size: number): Checkpoint[] {
  const points: Checkpoint[] = []
  for (
    let point = object && checkpointBefore(object, size, size);
    point;
    point = point.out > 0 ? checkpointBefore(object!, point.out - 1, size) : undefined
  )
    points.unshift(point)
  return points
}

/** What a reader gets from a place, who stops at the next one. */
async function unpackFrom(
  object: Buffer,
  { packed: start, bit, out, end, window, isWindow }: Checkpoint,
  packed: Buffer,
): Promise<Buffer> {
  const kept = object.subarray(window.start, window.end)
  expect(isWindow(kept)).toBe(true)
  const rest = packed.subarray(start)
  if (kept.length === 0) return gunzipSync(rest).subarray(0, end - out)
  const moved = bit === 0 ? rest : await buffer(Readable.from(fromAmidByte(Readable.from([rest]), bit)))
  return inflateRawSync(moved, { dictionary: inflateRawSync(kept) }).subarray(0, end - out)
}

/** Everything comes out, and from each checkpoint what lies behind it. */
async function expectAll(
  packed: Buffer,
  plain: Buffer,
  options: { piece?: number } = {},
): Promise<{ object: Buffer | undefined; points: Checkpoint[] }> {
  const { plain: found, checkpoints: object } = gunzip(packed, options)
  expect(found.equals(plain)).toBe(true)
  const points = pointsOf(object, plain.length)
  for (const point of points)
    expect(
      (await unpackFrom(object!, point, packed)).equals(plain.subarray(point.out, point.end)),
      `at ${point.out}`,
    ).toBe(true)
  return { object, points }
}

describe('checkpoints of a gzip stream', () => {
  it.each([1, 6, 9])('level %i: the tar from each, and they are small', async (level) => {
    const plain = text(13 * MEBIBYTE)
    const { object, points } = await expectAll(gzipSync(plain, { level }), plain)
    expect(points.length).toBe(4)
    for (const { out, end } of points) expect(end - out).toBeLessThan(3_600_000)
    expect(new Set(points.map(({ bit }) => bit)).size).toBeGreaterThan(1)
    expect(object!.length).toBeLessThan(plain.length / 100)
  })

  it.each([13, 4096, Infinity])('whatever the pieces it came in: of %s bytes', async (piece) => {
    const plain = text(9 * MEBIBYTE)
    const packed = gzipSync(plain, { level: 1 })
    expect((await expectAll(packed, plain, { piece: Math.min(piece, packed.length) })).points.length).toBe(2)
  })

  it('where blocks are stored and look like others within', async () => {
    const inner = Buffer.concat(Array.from({ length: 3 }, (_, seed) => gzipSync(text(2 * MEBIBYTE, seed + 1))))
    const plain = Buffer.concat([inner, inner, inner, inner])
    await expectAll(gzipSync(plain, { level: constants.Z_NO_COMPRESSION }), plain)
  })

  it('between stored pieces, zeros and members', async () => {
    const plain = Buffer.concat([
      text(5 * MEBIBYTE),
      randomBytes(3 * MEBIBYTE),
      gzipSync(text(5 * MEBIBYTE)),
      Buffer.alloc(20 * MEBIBYTE),
      text(6 * MEBIBYTE, 2),
    ])
    const last = text(6 * MEBIBYTE, 3)
    expect(
      (await expectAll(Buffer.concat([gzipSync(plain), gzipSync(last)]), Buffer.concat([plain, last]))).points.length,
    ).toBeGreaterThan(4)
  })

  it('of very many small members, some of them empty', async () => {
    const plain = text(9_000_000)
    const plains = Array.from({ length: 900 }, (_, n) => [
      plain.subarray(n * 10_000, (n + 1) * 10_000),
      Buffer.alloc(0),
    ]).flat()
    expect((await expectAll(Buffer.concat(plains.map((each) => gzipSync(each))), plain)).points.length).toBe(2)
  })

  it('of members a little larger than what lies between two, each with a beginning of its own', async () => {
    const plains = Array.from({ length: 4 }, (_, n) => text(4 * MEBIBYTE + 300_000, n + 1))
    const { points } = await expectAll(Buffer.concat(plains.map((each) => gzipSync(each))), Buffer.concat(plains))
    expect(points.some(({ window }) => window.start === window.end)).toBe(true)
  })

  it('none of a small one, and none where nobody wants them', () => {
    expect(gunzip(gzipSync(text(MEBIBYTE))).checkpoints).toBeUndefined()
    expect(gunzip(gzipSync(text(9 * MEBIBYTE)), { findsCheckpoints: false }).checkpoints).toBeUndefined()
  })
})

describe('a gzip stream', () => {
  const plain = text(700_000)
  const packed = gzipSync(plain)

  it('ends at zeros, whatever they hold', () => {
    expect(gunzip(Buffer.concat([packed, Buffer.alloc(1000), packed])).plain.equals(plain)).toBe(true)
  })

  it.each<[string, Buffer, string]>([
    ['cut', packed.subarray(0, -1), 'is cut short'],
    ['cut in a second header', Buffer.concat([packed, packed.subarray(0, 5)]), 'is cut short'],
    ['with something behind it', Buffer.concat([packed, Buffer.from('something')]), 'is damaged'],
    ['with a wrong check sum', Buffer.concat([packed.subarray(0, -8), Buffer.alloc(8, 1)]), 'is damaged'],
    ['of a block that is none', Buffer.concat([packed.subarray(0, 10), Buffer.alloc(100, 0xff)]), 'is damaged'],
  ])('%s is refused', (_what, bytes, how) => {
    expect(() => gunzip(bytes)).toThrow(
      expect.objectContaining({ code: 'layer_invalid', message: `the layer's gzip stream ${how}` }) as Error,
    )
  })

  it('of zeros is refused beyond its ratio, before it is unpacked', () => {
    const bomb = gzipSync(Buffer.alloc(64 * MEBIBYTE), { level: 9 })
    expect(() => gunzip(bomb, { maxRatio: 100 })).toThrow(expect.objectContaining({ code: 'limit_exceeded' }) as Error)
    expect(gunzip(bomb, { maxRatio: 2000 }).plain.length).toBe(64 * MEBIBYTE)
  })
})
