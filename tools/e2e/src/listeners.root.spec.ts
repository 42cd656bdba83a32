import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { RawClient, requestText, sendAndReset } from '@strata/platform/testing'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadBusybox } from './testing/busybox-image.js'
import { freePort } from '@strata/store/testing'
import { StrataUnderTest } from './testing/strata.js'

let strata: StrataUnderTest
let gateway: { host: string; port: number }
let node: { host: string; port: number }
let container: string
beforeAll(async () => {
  gateway = { host: '127.0.0.1', port: await freePort() }
  node = { host: '127.0.0.1', port: await freePort() }
  strata = await StrataUnderTest.start({
    environment: {
      STRATA_PREPARE: 'false',
      STRATA_LISTEN: `127.0.0.1:${gateway.port}`,
      STRATA_DOOR_LISTEN: `127.0.0.1:${node.port}`,
    },
  })
  await loadBusybox(strata, 'listeners:1')
  container = (await strata.request('POST', '/v1/containers', LAUNCH)).json<{ id: string }>().id
})
afterAll(() => strata.dispose())

const LAUNCH = { image: 'listeners:1', command: ['sleep', '1000'] }
const IMAGE = `/v1/images/${encodeURIComponent('listeners:1')}`
const JSON_TYPE = 'content-type: application/json'
const token = (): string => `authorization: Bearer ${readFileSync(strata.tokenFile, 'utf8').trim()}`
const secret = (): string => `x-strata-secret: ${readFileSync(join(strata.data, 'node-secret'), 'utf8').trim()}`

/** All that a request without a token could have changed. */
async function state(): Promise<unknown> {
  const { jobs } = (await strata.request('GET', '/v1/jobs?limit=1000')).json<{ jobs: { id: string }[] }>()
  return {
    images: await strata.images(),
    containers: (await strata.containers()).map(({ id, state }) => ({ id, state })),
    jobs: jobs.map(({ id }) => id).sort(),
  }
}

/** Of the process that runs the gateway, in MiB. */
const memory = (field: 'VmRSS' | 'VmHWM'): number =>
  Number(
    new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync(`/proc/${strata.pid('gateway')}/status`, 'utf8'))?.[1],
  ) / 1024

async function statusOf(to: typeof gateway, text: string): Promise<number> {
  const client = await RawClient.connect(to)
  await client.send(text)
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(await client.receive(/\r\n\r\n/))?.[1])
  client.socket.destroy()
  return status
}

describe('without the token', () => {
  it.each<[name: string, to: () => typeof gateway, text: () => string]>([
    ['a launch', () => gateway, () => requestText('POST /v1/containers', [JSON_TYPE], JSON.stringify(LAUNCH))],
    ['removal of a container', () => gateway, () => requestText(`DELETE /v1/containers/${container}?force=true`)],
    ['removal of an image', () => gateway, () => requestText(`DELETE ${IMAGE}?force=true`)],
    ['a mount', () => gateway, () => requestText(`POST ${IMAGE}/mount`)],
    ['a collection', () => gateway, () => requestText('POST /v1/gc', [JSON_TYPE], '{}')],
    ['a load', () => gateway, () => requestText('POST /v1/images', ['content-type: application/x-tar'], 'no tar')],
    ['removal of a container on its node', () => node, () => requestText(`DELETE /containers/${container}?force=true`)],
    ['a signal on the node', () => node, () => requestText(`POST /containers/${container}/kill`, [JSON_TYPE], '{}')],
  ])('%s is refused, and does not run for a client that resets its connection at once', async (_, to, text) => {
    const before = await state()
    expect(await statusOf(to(), text())).toBe(401)
    for (let attempt = 0; attempt < 50; attempt++) await sendAndReset(to(), text())
    // Accepted after all of those.
    expect(await statusOf(to(), text())).toBe(401)
    expect(await state()).toEqual(before)
  })

  it('a path that does not exist is refused in the same way', async () => {
    expect(await statusOf(gateway, requestText('GET /v1/nothing'))).toBe(401)
    expect(await statusOf(node, requestText('GET /nothing'))).toBe(401)
    expect(await statusOf(gateway, requestText('GET /v1/nothing', [token()]))).toBe(404)
    expect(await statusOf(node, requestText('GET /nothing', [secret()]))).toBe(404)
  })

  it('a hundred bodies that never end take no memory, and their connections are closed', async () => {
    const text = requestText('POST /v1/containers', [JSON_TYPE, 'content-length: 4194304'])
    const almost = Buffer.alloc(4 * 1024 * 1024 - 1, ' ')
    writeFileSync(`/proc/${strata.pid('gateway')}/clear_refs`, '5')
    const before = memory('VmRSS')
    const clients = await Promise.all(Array.from({ length: 100 }, () => RawClient.connect(gateway)))
    for (const client of clients) {
      await client.send(text)
      client.socket.write(almost)
    }
    await Promise.all(clients.map(({ closed }) => closed))
    for (const client of clients) expect(client.text).toMatch(/^HTTP\/1\.1 401 /)
    expect(memory('VmHWM') - before).toBeLessThan(32)
  })

  it('requests one behind another, on a hundred connections that read no answer, take little', async () => {
    const many = requestText('GET /v1/info').repeat(2_000)
    writeFileSync(`/proc/${strata.pid('gateway')}/clear_refs`, '5')
    const before = memory('VmRSS')
    const clients = await Promise.all(Array.from({ length: 100 }, () => RawClient.connect(gateway)))
    for (const client of clients) {
      client.socket.pause()
      client.socket.write(many)
    }
    await Promise.all(clients.map(({ closed }) => closed))
    expect(memory('VmHWM') - before).toBeLessThan(32)
  })

  it('what is open stays open', async () => {
    for (const path of ['/docs', '/docs/openapi.json', '/docs/swagger-ui.css', '/v1/health/live', '/v1/health/ready'])
      expect(await statusOf(gateway, requestText(`GET ${path}`)), path).toBe(200)
  })
})

describe('limits', () => {
  let limited: StrataUnderTest
  const CONNECTIONS = 20
  const tcp = { host: '127.0.0.1', port: 0 }
  const nodeTcp = { host: '127.0.0.1', port: 0 }
  beforeAll(async () => {
    tcp.port = await freePort()
    nodeTcp.port = await freePort()
    limited = await StrataUnderTest.start({
      environment: {
        STRATA_LISTEN: `127.0.0.1:${tcp.port}`,
        STRATA_DOOR_LISTEN: `127.0.0.1:${nodeTcp.port}`,
        STRATA_MAX_CONNECTIONS: String(CONNECTIONS),
        STRATA_HEADERS_TIMEOUT_MS: '700',
        STRATA_BODY_TIMEOUT_MS: '1500',
        STRATA_BODY_MEMORY: '4',
      },
    })
  })
  afterAll(() => limited.dispose())

  const read = (path: string): string => readFileSync(path, 'utf8').trim()
  /** Each listener, with what it needs to know a client, and a request of its own. */
  const LISTENERS = [
    [
      'the gateway’s TCP listener',
      () => ({
        to: tcp,
        known: `authorization: Bearer ${read(limited.tokenFile)}`,
        get: 'GET /v1/version',
        post: 'POST /v1/containers',
      }),
    ],
    [
      'its unix listener',
      () => ({
        to: { path: limited.socket },
        known: 'accept: */*',
        get: 'GET /v1/version',
        post: 'POST /v1/containers',
      }),
    ],
    [
      'the node’s listener',
      () => ({
        to: nodeTcp,
        known: `x-strata-secret: ${read(join(limited.data, 'node-secret'))}`,
        get: 'GET /containers',
        post: 'POST /mounts',
      }),
    ],
  ] as const

  it.each(LISTENERS)('%s closes what sends its headers slowly', async (_, of) => {
    for (const text of ['', 'GET / HTTP/1.1\r\nhost:']) {
      const client = await RawClient.connect(of().to)
      await client.send(text)
      await client.closed
      expect(client.text).toMatch(/^HTTP\/1\.1 408 /)
    }
  })

  it.each(LISTENERS)('%s refuses a body that comes slowly, and closes its connection', async (_, of) => {
    const { to, known, post } = of()
    const client = await RawClient.connect(to)
    await client.send(requestText(post, [known, JSON_TYPE, 'content-length: 100']))
    expect(await client.receive(/\}/)).toMatch(/^HTTP\/1\.1 408 [^]*"code":"request_timeout"/)
    await client.closed
  })

  it.each(LISTENERS)('%s takes so many connections and no more', async (_, of) => {
    const { to, known, get } = of()
    const open: RawClient[] = []
    for (;;) {
      const client = await RawClient.connect(to)
      client.socket.write(requestText(get, [known]))
      const answer = await client.receive(/\r\n\r\n/)
      if (answer === '') break
      // A gateway that stood still took it for one that says nothing, and let it go.
      if (answer.includes(' 408 ')) continue
      open.push(client)
    }
    // The services' own connections count too.
    expect(open.length).toBeGreaterThan(CONNECTIONS / 2)
    expect(open.length).toBeLessThanOrEqual(CONNECTIONS)
    open.forEach(({ socket }) => socket.destroy())
    await Promise.all(open.map(({ closed }) => closed))
  })

  it.each(LISTENERS)('%s holds so many bytes of bodies and no more', async (_, of) => {
    const { to, known, post } = of()
    await expect
      .poll(
        async () => {
          const clients = await Promise.all([1, 2].map(() => RawClient.connect(to)))
          for (const { socket } of clients)
            socket.write(requestText(post, [known, JSON_TYPE, 'content-length: 4000000'], ' '.repeat(3_000_000)))
          // One has no room; else both are too slow.
          await Promise.race(clients.map((client) => client.receive(/\}/)))
          clients.forEach(({ socket }) => socket.destroy())
          return clients.map(({ text }) => text).join()
        },
        { timeout: 100_000 },
      )
      .toMatch(/^HTTP\/1\.1 503 [^]*"code":"overloaded"/)
  })
})
