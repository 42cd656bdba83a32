import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, get, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { ByteRange } from '../../objects/object-store.js'
import { PAUSE_MS, ResumingBody } from './resuming-body.js'

const BYTES = randomBytes(4 * 1024 * 1024)

let server: Server
/** Where the answers begin that were requested. */
let requested: number[]
beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  requested = []
  server = createServer((request, response) => {
    const start = Number(request.url!.slice(1))
    response.writeHead(206, { 'content-length': BYTES.length - start })
    response.end(BYTES.subarray(start))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
})
afterEach(() => {
  vi.useRealTimers()
  server.closeAllConnections()
  server.close()
})

async function open({ start }: ByteRange): Promise<IncomingMessage> {
  requested.push(start)
  const { port } = server.address() as AddressInfo
  const [answer] = (await once(get(`http://127.0.0.1:${port}/${start}`), 'response')) as [IncomingMessage]
  answer.on('error', () => undefined)
  return answer
}

it('closes an answer that has waited for its reader for 2 s in all, however often a little is taken', async () => {
  const body = new ResumingBody(undefined, { start: 0, end: BYTES.length }, open)
  const reading = body[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  const chunks: Buffer[] = []
  const take = async (): Promise<void> => void chunks.push((await reading.next()).value as Buffer)
  await take()
  for (let waited = 0; waited <= PAUSE_MS; waited += 700) {
    expect(requested).toEqual([0])
    await expect.poll(() => body.readableLength).toBeGreaterThanOrEqual(body.readableHighWaterMark)
    vi.advanceTimersByTime(700)
    await take()
  }
  await expect.poll(() => requested).toHaveLength(2)
  for (let next = await reading.next(); !next.done; next = await reading.next()) chunks.push(next.value)
  expect(Buffer.concat(chunks).equals(BYTES)).toBe(true)
  expect(requested).toHaveLength(2)
})
