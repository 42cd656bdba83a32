import { once } from 'node:events'
import type { Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { NestFastifyApplication } from '@nestjs/platform-fastify'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { allowEveryone, secretInHeader } from '../http/authentication.js'
import { createHttpApp } from '../http/http-app.js'
import { closeListener, openListener } from '../listener/open-listener.js'
import { loggingModule } from '../service/logging.js'
import { Attach } from '../testing/attach-app.js'
import { BODIES, LIMITS } from '../testing/limits.js'
import { Probe, Probed, TREES } from '../testing/probe-app.js'
import { RawClient, requestText } from '../testing/raw-client.js'
import { Metrics } from './metrics.js'
import { countRequests } from './request-metrics.js'

const TOKEN = 'x-token: the-token-of-this-test'
let app: NestFastifyApplication
let server: Server
let metrics: Metrics
beforeAll(async () => {
  metrics = await Metrics.open()
  const made = await createHttpApp(
    { module: Probed, imports: [loggingModule('silent')], controllers: [Probe, Attach] },
    {
      authentication: { unix: allowEveryone, tcp: secretInHeader('x-token', TOKEN.slice(9)), refusal: 'no' },
      bodies: BODIES,
      trees: TREES,
      metrics: metrics.of('gateway'),
    },
  )
  app = made.app
  server = await openListener({ kind: 'tcp', host: '127.0.0.1', port: 0 }, made.handler, LIMITS)
})
afterAll(async () => {
  await closeListener(server, 0)
  await app.close()
})

const connect = (): Promise<RawClient> => RawClient.connect({ port: (server.address() as AddressInfo).port })

/** Sends all, and waits until the service has closed the connection behind the last answer. */
async function ask(...texts: string[]): Promise<void> {
  const client = await connect()
  for (const [index, text] of texts.entries()) {
    await client.send(text)
    const answers = new RegExp(`(HTTP/1[^]*?){${index + 1}}`)
    await client.receive(answers)
  }
  client.socket.end()
  await client.closed
}
const get = (path: string, ...headers: string[]): string => requestText(`GET ${path}`, [TOKEN, ...headers])

/** The values of one series, by their labels. */
async function values(name: string): Promise<Record<string, number>> {
  const { text } = await metrics.scrape()
  const found = [...text.matchAll(new RegExp(`^${name}\\{service="gateway",?(.*)\\} (\\S+)$`, 'gm'))]
  return Object.fromEntries(found.map(([, labels, value]) => [labels!.replaceAll('"', ''), Number(value)]))
}
const requests = () => values('strata_http_requests_total')

it('requests are counted by the patterns of their routes, however they end', async () => {
  await ask(get('/open'))
  await ask(get('/items/1'), get('/items/2?x=1'), get('/gone'), get('/broken'), get('/nowhere'))
  await ask(requestText('GET /items/1'))
  await ask(requestText('PROPFIND /items/1', [TOKEN]))
  await ask(get('/%ff'))
  await ask(get('/tree/1'), get('/tree/gone'), requestText('GET /tree/1'))
  await ask(requestText('POST /attach', [TOKEN, 'connection: upgrade', 'upgrade: tcp']))
  await expect.poll(requests).toEqual({
    'method=GET,route=/open,status=2xx': 1,
    'method=GET,route=/items/:id,status=2xx': 2,
    'method=GET,route=/items/:id,status=4xx': 1,
    'method=GET,route=/gone,status=4xx': 1,
    'method=GET,route=/broken,status=5xx': 1,
    'method=GET,route=none,status=4xx': 2,
    'method=other,route=none,status=4xx': 1,
    'method=POST,route=/attach,status=1xx': 1,
    'method=GET,route=/tree/:id,status=2xx': 1,
    'method=GET,route=/tree/*,status=4xx': 2,
  })
  const durations = await values('strata_http_request_duration_seconds_count')
  expect(durations).toMatchObject({ 'method=GET,route=/items/:id': 3, 'method=GET,route=none': 2 })
})

it('1,000 paths, tokens and methods of a stranger make no new series', async () => {
  const seriesNow = async (): Promise<number> =>
    (await metrics.scrape()).text.split('\n').filter((line) => line.startsWith('strata_')).length
  await ask(get('/items/x'), get('/x'))
  const before = await seriesNow()
  const total = async (): Promise<number> => Object.values(await requests()).reduce((sum, one) => sum + one, 0)
  const beforeTotal = await total()
  for (let n = 0; n < 1_000; n += 10) {
    const client = await connect()
    const five = Array.from({ length: 5 }, (_, m) => n + m)
    await client.send(
      five
        .map((one) => get(`/items/${one}?tag=${one}`, `user-agent: ${one}`) + get(`/${one}/manifests/v${one}`))
        .join(''),
    )
    await client.receive(/(HTTP\/1[^]*?){10}/)
    client.socket.destroy()
    await client.closed
  }
  await expect.poll(async () => (await total()) - beforeTotal).toBe(1_000)
  expect(await seriesNow()).toBe(before)
})

it('bytes are those of the connection, counted also while a body is on its way', async () => {
  const labels = 'method=POST,route=/raw'
  const received = async (): Promise<number> => (await values('strata_http_received_bytes_total'))[labels] ?? 0
  const client = await connect()
  const head = requestText('POST /raw', [TOKEN, 'content-type: application/octet-stream', 'content-length: 100000'])
  await client.send(head + 'x'.repeat(40_000))
  await expect.poll(received).toBe(head.length + 40_000)
  expect(await values('strata_http_requests_in_progress')).toEqual({ '': 1 })
  await client.send('x'.repeat(60_000))
  const answer = await client.receive(/\r\n\r\n.*\}/)
  await expect.poll(received).toBe(head.length + 100_000)
  await expect.poll(() => values('strata_http_requests_in_progress')).toEqual({ '': 0 })
  expect((await values('strata_http_sent_bytes_total'))[labels]).toBe(answer.length)
  client.socket.destroy()
  await client.closed
})

it('a client that leaves before its answer is counted as one without a status', async () => {
  const client = await connect()
  await client.send(requestText('POST /raw', [TOKEN, 'content-length: 10'], 'x'))
  await expect.poll(() => values('strata_http_requests_in_progress')).toEqual({ '': 1 })
  client.socket.destroy()
  await client.closed
  await expect.poll(requests).toMatchObject({ 'method=POST,route=/raw,status=none': 1 })
})

it('what a client never took is not counted back when it leaves', async () => {
  const own = await Metrics.open()
  let answer: ServerResponse | undefined
  const handler = countRequests((_, response) => {
    answer = response
    for (let sent = 0; sent < 400; sent++) response.write(Buffer.alloc(64 * 1024))
  }, own.of('gateway'))
  const listener = await openListener({ kind: 'tcp', host: '127.0.0.1', port: 0 }, handler, LIMITS)
  const client = await RawClient.connect({ port: (listener.address() as AddressInfo).port })
  client.socket.pause()
  await client.send(requestText('GET /', []))
  await expect.poll(() => answer?.socket?.writableLength ?? 0).toBeGreaterThan(0)
  const sent = async () => Number(/^strata_http_sent_bytes_total\{.*\} (\d+)$/m.exec((await own.scrape()).text)?.[1])
  // Behind what the kernel has not taken: it waits in memory.
  answer!.write(Buffer.alloc(64 * 1024))
  const socket = answer!.socket!
  await expect.poll(() => socket.writableLength).toBeGreaterThan(64 * 1024)
  const before = await sent()
  const closed = once(answer!, 'close')
  socket.resetAndDestroy()
  await closed
  expect(socket.bytesWritten).toBeLessThan(before)
  expect(await sent()).toBe(before)
  client.socket.destroy()
  await closeListener(listener, 0)
})
