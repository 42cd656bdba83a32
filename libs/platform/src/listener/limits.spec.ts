import { mkdtempSync, rmSync } from 'node:fs'
import type { Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { NestFastifyApplication } from '@nestjs/platform-fastify'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { allowEveryone } from '../http/authentication.js'
import { closeListener, openListener, type ListenerLimits } from './open-listener.js'
import { openHealth } from './health-listener.js'
import { createHttpApp } from '../http/http-app.js'
import type { MetricsPage } from '../metrics/metrics.js'
import { loggingModule } from '../service/logging.js'
import { LIMITS } from '../testing/limits.js'
import { Probe, Probed } from '../testing/probe-app.js'
import { RawClient, requestText } from '../testing/raw-client.js'

let folder: string
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'strata-limits-'))
  path = join(folder, 's')
})
afterEach(() => rmSync(folder, { recursive: true }))

const ASK = requestText('GET /health/live')
/** Both ways in which a service listens. */
const LISTENERS: [name: string, open: (limits: ListenerLimits) => Promise<() => Promise<void>>][] = [
  [
    'of an API',
    async (limits) => {
      const server = await openListener(
        { kind: 'unix', path, mode: 0o600 },
        (_request, response) => void response.end('answered'),
        limits,
      )
      return () => closeListener(server, 0)
    },
  ],
  [
    'for health',
    async (limits) => {
      const scrape = (): Promise<MetricsPage> => Promise.resolve({ contentType: 'text/plain', text: '' })
      const health = await openHealth(path, () => Promise.resolve([]), scrape, limits)
      return () => health.close()
    },
  ],
]

describe.each(LISTENERS)('a listener %s', (_, open) => {
  it.each([
    ['nothing', ''],
    ['a part of its headers', ASK.slice(0, -5)],
    ['a whole request, then a part of one', `${ASK}GET /health`],
  ])('closes the connection of a client that sends %s', async (_, text) => {
    const close = await open({ ...LIMITS, headersMs: 300 })
    const client = await RawClient.connect({ path })
    await client.send(text)
    await client.closed
    await close()
  })

  it('takes so many connections at a time and no more', async () => {
    const close = await open({ ...LIMITS, connections: 3 })
    const clients = await Promise.all(Array.from({ length: 3 }, () => RawClient.connect({ path })))
    // Accepted in their order.
    const fourth = await RawClient.connect({ path })
    await fourth.closed
    expect(fourth.text).toBe('')
    clients[0]!.socket.destroy()
    await expect
      .poll(async () => {
        const client = await RawClient.connect({ path })
        await client.send(ASK).catch(() => undefined)
        const text = await client.receive(/\r\n\r\n/)
        client.socket.destroy()
        return text
      })
      .toMatch(/^HTTP\/1\.1 200 /)
    clients.forEach(({ socket }) => socket.destroy())
    await close()
  })

  it('answers a request whose body never ends, and then closes', async () => {
    const close = await open(LIMITS)
    const client = await RawClient.connect({ path })
    await client.send(requestText('GET /health/live', ['content-length: 1000000']))
    expect(await client.receive(/\r\n\r\n/)).toMatch(/^HTTP\/1\.1 \d00 /)
    await client.closed
    await close()
  })
})

describe('bodies', () => {
  let app: NestFastifyApplication
  let server: Server
  async function open(timeoutMs: number): Promise<void> {
    const made = await createHttpApp(
      { module: Probed, imports: [loggingModule('silent')], controllers: [Probe] },
      {
        authentication: { unix: allowEveryone, tcp: allowEveryone, refusal: '' },
        bodies: { bytes: 4_000, memory: 10_000, timeoutMs },
      },
    )
    app = made.app
    server = await openListener({ kind: 'unix', path, mode: 0o600 }, made.handler, LIMITS)
  }
  afterEach(async () => {
    await closeListener(server, 0)
    await app.close()
  })

  const post = (headers: readonly string[], body = ''): string =>
    requestText('POST /echo', ['content-type: application/json', ...headers], body)
  const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`
  const padded = (length: number): string => `{"n":1${' '.repeat(length - 7)}}`
  async function ask(text: string): Promise<RawClient> {
    const client = await RawClient.connect({ path })
    await client.send(text)
    return client
  }

  it.each([
    ['as large as it may be', post([], padded(4_000)), 201, undefined],
    ['a byte larger, by its length alone', post(['content-length: 4001']), 413, 'limit_exceeded'],
    [
      'in pieces, as large as it may be',
      post(['transfer-encoding: chunked'], chunk(padded(4_000)) + chunk('')),
      201,
      undefined,
    ],
    ['in pieces, a byte larger', post(['transfer-encoding: chunked'], chunk(padded(4_001))), 413, 'limit_exceeded'],
    ['that does not come', post(['content-length: 10']), 408, 'request_timeout'],
    ['that does not end', post(['transfer-encoding: chunked'], chunk('{')), 408, 'request_timeout'],
  ])('one %s', async (_, text, status, code) => {
    await open(1_000)
    const client = await ask(text)
    expect(await client.receive(/\r\n\r\n[^]*\}/)).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
    if (code !== undefined) expect(client.text).toContain(`"code":"${code}"`)
    client.socket.destroy()
  })

  it('have a bound together: one that does not fit is refused at once, and fits when others are done', async () => {
    await open(600_000)
    const slow = await Promise.all(
      [1, 2, 3].map(() => ask(post(['content-length: 4000'], padded(4_000).slice(0, 3_000)))),
    )
    await expect
      .poll(async () => {
        const client = await ask(post([], padded(4_000)))
        const text = await client.receive(/\r\n\r\n[^]*\}/)
        client.socket.destroy()
        return text
      })
      .toMatch(/^HTTP\/1\.1 503 [^]*"code":"overloaded"/)
    // The rest of each would not fit either; one has gone, so it does.
    slow[0]!.socket.destroy()
    await expect
      .poll(async () => {
        const client = await ask(post([], padded(3_500)))
        const text = await client.receive(/\r\n\r\n[^]*\}/)
        client.socket.destroy()
        return text
      })
      .toMatch(/^HTTP\/1\.1 201 /)
    slow.forEach(({ socket }) => socket.destroy())
  })
})
