import { createServer, request, type ClientRequest, type IncomingMessage, type Server } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { asStrataError } from '@strata/base'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { RequestBodies } from './request-bodies.js'

let bodies: RequestBodies
let work: PromiseWithResolvers<undefined>
let begun: PromiseWithResolvers<undefined>
let server: Server
let url: string
beforeEach(async () => {
  bodies = new RequestBodies({ bytes: 100, memory: 150, timeoutMs: 10_000 })
  work = Promise.withResolvers()
  begun = Promise.withResolvers()
  server = createServer((incoming, response) => {
    const served =
      incoming.url === '/use'
        ? bodies.use(incoming, async (bytes) => {
            begun.resolve(undefined)
            await work.promise
            return bytes.length
          })
        : bodies.read(incoming).then((bytes) => bytes.length)
    served.then(
      (length) => response.end(`${length}`),
      (error: unknown) => response.end(asStrataError(error).code),
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterEach(() => {
  server.closeAllConnections()
  server.close()
})
const send = async (path: string, size: number): Promise<string> =>
  (await fetch(url + path, { method: 'PUT', body: 'x'.repeat(size) })).text()

it('a body has its memory until the work with it has ended, or failed', async () => {
  const using = send('/use', 100)
  await begun.promise
  expect(await send('/read', 60)).toBe('overloaded')
  expect(await send('/read', 50)).toBe('50')
  work.resolve(undefined)
  expect(await using).toBe('100')
  expect(await send('/read', 60)).toBe('60')
  work = Promise.withResolvers()
  begun = Promise.withResolvers()
  const failing = send('/use', 100)
  await begun.promise
  work.reject(new Error('failed'))
  expect(await failing).toBe('internal')
  expect(await send('/read', 101)).toBe('limit_exceeded')
  for (let i = 0; i < 3; i++) expect(await send('/read', 100)).toBe('100')
})

it('a body that came while this process stood still is not late; one that does not come is', async () => {
  const patience = 300
  const impatient = new RequestBodies({ bytes: 100, memory: 150, timeoutMs: patience })
  const isRead = Promise.withResolvers<string>()
  const reading = createServer((incoming, response) => {
    impatient.read(incoming).then(
      (bytes) => response.end(`${bytes.length}`),
      (error: unknown) => response.end(asStrataError(error).code),
    )
    isRead.resolve('')
  }).listen(0, '127.0.0.1')
  await once(reading, 'listening')
  const { port } = reading.address() as AddressInfo
  const put = () => {
    const client = request({ host: '127.0.0.1', port, method: 'PUT', agent: false, headers: { 'content-length': 10 } })
    client.flushHeaders()
    return client
  }
  const answerOf = async (client: ClientRequest): Promise<string> => {
    const [answer] = (await once(client, 'response')) as [IncomingMessage]
    return text(answer)
  }
  try {
    const late = put()
    const answer = answerOf(late)
    await isRead.promise
    // From here the event loop looks at its timers first.
    await new Promise(setImmediate)
    late.end('0123456789')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2 * patience)
    expect(await answer).toBe('10')
    expect(await answerOf(put())).toBe('request_timeout')
    // Nothing of either counts any more.
    for (let i = 0; i < 2; i++) {
      const next = put()
      next.end('0123456789')
      expect(await answerOf(next)).toBe('10')
    }
  } finally {
    reading.closeAllConnections()
    reading.close()
  }
})
