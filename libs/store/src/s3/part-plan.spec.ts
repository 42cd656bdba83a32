import { describe, expect, it } from 'vitest'
import { PartBuffers, partsOf } from './part-buffers.js'
import { growingParts, MAX_PARTS, UNIT } from './part-plan.js'

const GIB = 2 ** 30
const sizes = Array.from({ length: MAX_PARTS }, (_, at) => growingParts(at))
const total = sizes.reduce((sum, size) => sum + size, 0)

describe('growingParts', () => {
  it('takes the largest archive in as many parts as S3 takes', () => {
    expect(total).toBeGreaterThan(2 ** 40)
  })

  it('never shrinks, is of whole units, and within what S3 takes', () => {
    for (const [at, size] of sizes.entries()) {
      expect(size).toBeGreaterThanOrEqual(sizes[at - 1] ?? UNIT)
      expect(size % UNIT).toBe(0)
      expect(size).toBeLessThanOrEqual(5 * GIB)
    }
  })

  it('is as large as the documentation says', () => {
    const sizeAt = (bytes: number): number => {
      let at = 0
      for (let sum = 0; sum + sizes[at]! < bytes; at++) sum += sizes[at]!
      return sizes[at]! / 2 ** 20
    }
    expect([15 * GIB, 78 * GIB, 1024 * GIB].map(sizeAt)).toEqual([8, 64, 256])
    expect(sizes.at(-1)! / 2 ** 20).toBe(264)
    expect(total / 2 ** 40).toBeCloseTo(1.08, 2)
  })
})

describe('partsOf', () => {
  it('cuts a stream by the plan, whatever its chunks are, and gives every buffer back', async () => {
    const plan = (at: number): number => UNIT / 2 + at * UNIT
    const bytes = Buffer.alloc(5 * UNIT + 3).map((_, at) => at % 251)
    async function* chunks(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < bytes.length;) yield Promise.resolve(bytes.subarray(at, (at += 1_000_003)))
    }
    for (const source of [chunks(), bytes]) {
      const buffers = new PartBuffers()
      const parts: Buffer[] = []
      for await (const part of partsOf(source, buffers, plan)) {
        parts.push(Buffer.concat(part.bytes))
        expect(parts.at(-1)!.length).toBe(part.length)
        part.release()
      }
      expect(parts.map(({ length }) => length)).toEqual([plan(0), plan(1), plan(2), UNIT / 2 + 3])
      expect(Buffer.concat(parts).equals(bytes)).toBe(true)
    }
  })
})
