import { createServer, type Server } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
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
  server = createServer((request, response) => {
    const served =
      request.url === '/use'
        ? bodies.use(request, async (bytes) => {
            begun.resolve(undefined)
            await work.promise
            return bytes.length
          })
        : bodies.read(request).then((bytes) => bytes.length)
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
