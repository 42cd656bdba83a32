import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, get, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { StrataError } from '@strata/base'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { ByteRange } from '../../objects/object-store.js'
import { BodyMemory, MOST_HELD, UNIT } from './body-memory.js'
import { LentBody, type ReadInto } from './lent-body.js'

const BYTES = randomBytes(7 * UNIT + 5)
const FIRST = 1000

let server: Server
let memory: BodyMemory
/** Ranges that the ordinary client has requested, as `start-end`. */
let requested: string[]
/** An answer that ends before its announced length, from this byte of the object on. */
let brokenAt: number
beforeEach(async () => {
  memory = new BodyMemory()
  requested = []
  brokenAt = Infinity
  server = createServer((request, response) => {
    const [start, end] = request.url!.slice(1).split('-').map(Number) as [number, number]
    response.writeHead(206, { 'content-length': end - start })
    response.flushHeaders()
    response.write(BYTES.subarray(start, Math.min(end, brokenAt)))
    if (end > brokenAt) response.destroy()
    else response.end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
})
afterEach(() => {
  server.closeAllConnections()
  server.close()
})

async function answerOf({ start, end }: ByteRange): Promise<IncomingMessage> {
  const { port } = server.address() as AddressInfo
  const [answer] = (await once(get(`http://127.0.0.1:${port}/${start}-${end}`), 'response')) as [IncomingMessage]
  answer.on('error', () => undefined)
  return answer
}

async function open(range: ByteRange): Promise<IncomingMessage> {
  requested.push(`${range.start}-${range.end}`)
  return answerOf(range)
}

const readAll: ReadInto = async ({ start, end }, into) => Promise.resolve(BYTES.copy(into, 0, start, end))

async function bodyOf(readInto = readAll, reopen: typeof open = open): Promise<LentBody> {
  const first = await answerOf({ start: 0, end: FIRST })
  return new LentBody({ first, firstEnd: FIRST, range: { start: 0, end: BYTES.length } }, reopen, readInto, memory)
}

async function collect(body: LentBody): Promise<Buffer> {
  const copies: Buffer[] = []
  for await (const chunk of body.lend()) copies.push(Buffer.from(chunk))
  return Buffer.concat(copies)
}

describe('LentBody', () => {
  it('lends what it gives as a stream, in the memory of seven pieces', async () => {
    const streamed = Buffer.concat((await (await bodyOf()).toArray()) as Buffer[])
    expect(streamed.equals(BYTES)).toBe(true)
    expect(requested).toEqual([`${FIRST}-${BYTES.length}`])
    requested = []
    let most = 0
    const body = await bodyOf(async (range, into, signal) => {
      most = Math.max(most, memory.held)
      return readAll(range, into, signal)
    })
    expect((await collect(body)).equals(BYTES)).toBe(true)
    expect(requested).toEqual([])
    expect(most).toBe(7 * UNIT)
    expect(body.destroyed).toBe(true)
    await expect.poll(() => memory.held).toBe(0)
  })

  it('requests what a piece lacks from the byte where it stopped', async () => {
    const body = await bodyOf(async ({ start, end }, into) => {
      const stop = start === FIRST + UNIT ? start + 77 : end
      return Promise.resolve(BYTES.copy(into, 0, start, stop))
    })
    expect((await collect(body)).equals(BYTES)).toBe(true)
    expect(requested).toEqual([`${FIRST + UNIT + 77}-${FIRST + 2 * UNIT}`])
  })

  it('goes on where both ways break, and ends with an error if they never give a byte', async () => {
    brokenAt = FIRST + 2 * UNIT
    let pieces = 0
    const body = await bodyOf(async (range, into, signal) => (pieces++ < 2 ? readAll(range, into, signal) : 0))
    let length = 0
    const reading = (async () => {
      for await (const chunk of body.lend()) {
        expect(chunk.equals(BYTES.subarray(length, length + chunk.length))).toBe(true)
        length += chunk.length
      }
    })()
    await expect(reading).rejects.toMatchObject({ code: 'store_unavailable' })
    expect(length).toBe(brokenAt)
    await expect.poll(() => memory.held).toBe(0)
  })

  it('tells the error that the rest ends in, and never bytes of it', async () => {
    const changed = new StrataError('store_unavailable', 'changed')
    const body = await bodyOf(
      async () => Promise.resolve(0),
      () => Promise.reject(changed),
    )
    await expect(collect(body)).rejects.toBe(changed)
    await expect.poll(() => memory.held).toBe(0)
  })

  /** Pieces that never come, and how many of them have been stopped. */
  const standing = () => {
    const counts = { begun: 0, stopped: 0 }
    const readInto: ReadInto = async (_, __, signal) => {
      counts.begun++
      await once(signal, 'abort')
      counts.stopped++
      return 0
    }
    return { counts, readInto }
  }

  it('stops the pieces that are on their way when it is left early, and gives their memory back', async () => {
    const { counts, readInto } = standing()
    const body = await bodyOf(readInto)
    for await (const chunk of body.lend()) {
      expect(chunk.length).toBeLessThanOrEqual(FIRST)
      expect(memory.held).toBe(6 * UNIT)
      break
    }
    await expect.poll(() => memory.held).toBe(0)
    expect(counts).toEqual({ begun: 6, stopped: 6 })
    expect(body.destroyed).toBe(true)
    expect(requested).toEqual([])
  })

  it('ends the iteration with the error that it is destroyed with', async () => {
    const { counts, readInto } = standing()
    const body = await bodyOf(readInto)
    const reading = collect(body)
    reading.catch(() => undefined)
    await expect.poll(() => counts.begun).toBe(6)
    const reason = new Error('not wanted any more')
    body.destroy(reason)
    await expect(reading).rejects.toBe(reason)
    await expect.poll(() => memory.held).toBe(0)
    expect(counts.stopped).toBe(6)
  })

  it('holds one piece for a reader that stands still, and streams what follows while it is slow', async () => {
    let begun = 0
    const body = await bodyOf(async (range, into, signal) => {
      begun++
      return readAll(range, into, signal)
    })
    const copies: Buffer[] = []
    for await (const chunk of body.lend()) {
      copies.push(Buffer.from(chunk))
      if (copies.length === 2) {
        await expect.poll(() => memory.held).toBe(7 * UNIT)
        await expect.poll(() => memory.held).toBe(UNIT)
        expect(begun).toBe(7)
      }
      if (copies.length === 3) expect([begun, memory.held]).toEqual([7, 0])
    }
    expect(Buffer.concat(copies).equals(BYTES)).toBe(true)
    expect(requested).toEqual([`${FIRST + UNIT}-${FIRST + 2 * UNIT}`])
    expect(begun).toBe(7 + 5)
    await expect.poll(() => memory.held).toBe(0)
  })

  it('holds nothing for a reader that takes little, and often', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
    try {
      const end = 2 * UNIT
      const first = await answerOf({ start: 0, end })
      const body = new LentBody({ first, firstEnd: end, range: { start: 0, end: BYTES.length } }, open, readAll, memory)
      let taken = 0
      for await (const { length } of body.lend()) {
        vi.advanceTimersByTime(200)
        if ((taken += length) > UNIT) break
        if (taken > UNIT / 2) await expect.poll(() => memory.held).toBe(0)
      }
    } finally {
      vi.useRealTimers()
    }
  })

  it('leaves memory to uploads, however many readers stand still', async () => {
    const bodies = await Promise.all(Array.from({ length: 20 }, () => bodyOf()))
    const readers = bodies.map((body) => body.lend()[Symbol.asyncIterator]())
    for (const reader of readers) await reader.next()
    expect(memory.held).toBe(MOST_HELD - 8 * 1024 * 1024)
    for (const body of bodies) body.destroy()
    await Promise.all(readers.map((reader) => reader.next().catch(() => undefined)))
    await expect.poll(() => memory.held).toBe(0)
  })

  it('comes in fewer pieces at a time while others hold half of the memory', async () => {
    memory.hold(MOST_HELD / 2 + 1)
    let most = 0
    const body = await bodyOf(async (range, into, signal) => {
      most = Math.max(most, memory.held)
      return readAll(range, into, signal)
    })
    expect((await collect(body)).equals(BYTES)).toBe(true)
    expect(most).toBe(MOST_HELD / 2 + 1 + 3 * UNIT)
  })

  it('is streamed where the process has no memory for a piece', async () => {
    memory.hold(MOST_HELD)
    expect((await collect(await bodyOf())).equals(BYTES)).toBe(true)
    expect(memory.held).toBe(MOST_HELD)
    expect(requested).toHaveLength(7)
  })
})
