import { describe, expect, it } from 'vitest'
import { BodyMemory, UNIT } from './body-memory.js'
import { LARGE_PART, largeParts, MAX_PARTS, planIn, SMALL_PART, smallParts } from './part-plan.js'
import { partsOf, type Part } from './parts.js'

const GIB = 2 ** 30

describe.each([
  ['small parts', smallParts, SMALL_PART],
  ['large parts', largeParts, LARGE_PART],
])('%s', (_, plan, least) => {
  const sizes = Array.from({ length: MAX_PARTS }, (_, at) => plan(at))

  it('take the largest archive in as many as S3 takes', () => {
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeGreaterThan(2 ** 40)
  })

  it('never shrink, are of whole steps, and within what S3 takes', () => {
    for (const [at, size] of sizes.entries()) {
      expect(size).toBeGreaterThanOrEqual(sizes[at - 1] ?? least)
      expect(size % SMALL_PART).toBe(0)
      expect(size).toBeLessThanOrEqual(5 * GIB)
    }
  })

  it('are as large as the documentation says', () => {
    const sizeAt = (bytes: number): number => {
      let at = 0
      for (let sum = 0; sum + sizes[at]! < bytes; at++) sum += sizes[at]!
      return sizes[at]! / 2 ** 20
    }
    expect(sizeAt(15 * GIB)).toBe(least / 2 ** 20)
    if (plan === smallParts) expect([78 * GIB, 1024 * GIB].map(sizeAt)).toEqual([64, 256])
    expect(sizes.at(-1)! / 2 ** 20).toBe(264)
  })
})

describe('partsOf', () => {
  it('cuts a stream by the plan, whatever its chunks are, and gives all memory back', async () => {
    const plan = (at: number): number => UNIT / 2 + at * UNIT
    const bytes = Buffer.alloc(5 * UNIT + 3).map((_, at) => at % 251)
    async function* chunks(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < bytes.length;) yield Promise.resolve(bytes.subarray(at, (at += 1_000_003)))
    }
    for (const source of [chunks(), bytes]) {
      const memory = new BodyMemory()
      const parts: Buffer[] = []
      for await (const part of partsOf(source, { memory, plan })) {
        parts.push(Buffer.concat(part.bytes))
        expect(parts.at(-1)!.length).toBe(part.length)
        part.release()
      }
      expect(parts.map(({ length }) => length)).toEqual([plan(0), plan(1), plan(2), UNIT / 2 + 3])
      expect(Buffer.concat(parts).equals(bytes)).toBe(true)
      expect(memory.held).toBe(0)
    }
  })

  /** Streams without end whose parts are sent to a server that stands still. */
  const flood = (count: number, memory: BodyMemory) => {
    const chunk = new Uint8Array(SMALL_PART)
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) yield await Promise.resolve(chunk)
    }
    return Array.from({ length: count }, () => {
      const out: Part[] = []
      const parts = partsOf(endless(), { memory, plan: planIn(memory) })
      void (async () => {
        for await (const part of parts) out.push(part)
      })()
      return out
    })
  }
  const settled = async (): Promise<void> => {
    for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve))
  }

  it.each([
    ['one has four parts of 16 MiB', 1, [4], 64],
    ['two share', 2, [2, 2], 64],
    ['each of many has one', 12, Array<number>(12).fill(1), 120],
  ])('holds no more than 64 MiB, or a part for each stream: %s', async (_, count, parts, mebibytes) => {
    const memory = new BodyMemory()
    const streams = flood(count, memory)
    await settled()
    expect(streams.map((out) => out.length).sort()).toEqual(parts)
    expect(memory.held / 2 ** 20).toBe(mebibytes)
    // Who has released a part goes on, whatever the others do.
    streams[0]!.shift()!.release()
    await settled()
    expect(streams[0]!).toHaveLength(parts[0]!)
  })

  it('holds what has come of a stream, so many that send slowly leave the memory to others', async () => {
    const memory = new BodyMemory()
    const standing = Promise.withResolvers<undefined>()
    async function* slow(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('x')
      await standing.promise
    }
    const ended = Array.from({ length: 8 }, async () => {
      for await (const part of partsOf(slow(), { memory, plan: planIn(memory) })) part.release()
    })
    await settled()
    expect(memory.held).toBe(8 * UNIT)
    const [out] = flood(1, memory)
    await settled()
    // 32 MiB are left, for parts of 8 MiB.
    expect(out).toHaveLength(4)
    standing.resolve(undefined)
    await Promise.all(ended)
  })
})
