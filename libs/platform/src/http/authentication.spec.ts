import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { NestFastifyApplication } from '@nestjs/platform-fastify'
import { Logger } from '@nestjs/common'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { allowEveryone, secretInHeader } from './authentication.js'
import { closeListener, openListener } from '../listener/open-listener.js'
import { createHttpApp } from './http-app.js'
import { loggingModule } from '../service/logging.js'
import { BODIES, LIMITS } from '../testing/limits.js'
import { Probe, Probed, TREES } from '../testing/probe-app.js'
import { RawClient, requestText, sendAndReset } from '../testing/raw-client.js'

const TOKEN = 'the-token-of-this-test'
const RIGHT = `authorization: Bearer ${TOKEN}`
const authentication = {
  unix: allowEveryone,
  tcp: secretInHeader('authorization', TOKEN, (value) => /^bearer (.+)$/i.exec(value)?.[1]),
  refusal: 'send the token',
}
const BODY = '{"n":1}'
const JSON_TYPE = 'content-type: application/json'

let folder: string
let app: NestFastifyApplication
let servers: Server[]
let tcp: { host: string; port: number }
let unix: { path: string }
/** A server that was not made by `openListener`. */
let stranger: { host: string; port: number }
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strata-auth-'))
  const made = await createHttpApp(
    { module: Probed, imports: [loggingModule('silent')], controllers: [Probe] },
    { authentication, bodies: BODIES, trees: TREES },
  )
  app = made.app
  unix = { path: join(folder, 's') }
  const other = createServer(made.handler)
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  servers = [
    await openListener({ kind: 'tcp', host: '127.0.0.1', port: 0 }, made.handler, LIMITS),
    await openListener({ kind: 'unix', ...unix, mode: 0o600 }, made.handler, LIMITS),
    other,
  ]
  const port = (server: Server): number => (server.address() as AddressInfo).port
  tcp = { host: '127.0.0.1', port: port(servers[0]!) }
  stranger = { host: '127.0.0.1', port: port(other) }
})
afterAll(async () => {
  await Promise.all(servers.map((server) => closeListener(server, 100)))
  await app.close()
  rmSync(folder, { recursive: true })
})
beforeEach(() => Probe.calls.splice(0))

/**
 * The status lines of all answers: at least `count`, and those that the server could still have had
 * to say.
 */
async function statuses(to: typeof tcp | typeof unix, text: string, count: number): Promise<number[]> {
  const client = await RawClient.connect(to)
  await client.send(text)
  // Node drops what stands behind an upgrade in the same piece, so the answers come first.
  await client.receive(new RegExp(`(?:HTTP/1\\.1 \\d{3}[^]*){${count}}`))
  await client.send(requestText('GET /open', ['connection: close']))
  await client.closed
  const all = [...client.text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => Number(status))
  return all.length > count && client.text.endsWith('{"open":true}') ? all.slice(0, -1) : all
}

describe('a TCP listener', () => {
  it('does not write a line for each request that it refuses', async () => {
    const log = vi.spyOn(Logger.prototype, 'log')
    for (let count = 0; count < 20; count++) expect(await statuses(tcp, requestText('GET /items/1'), 1)).toEqual([401])
    expect(log.mock.calls.length).toBeLessThanOrEqual(1)
    log.mockRestore()
  })

  it.each<[name: string, text: string, statuses: number[]]>([
    ['no token', requestText('GET /items/1'), [401]],
    ['a wrong token', requestText('GET /items/1', [`${RIGHT}x`]), [401]],
    ['another scheme', requestText('GET /items/1', [`authorization: Basic ${TOKEN}`]), [401]],
    ['the token', requestText('GET /items/1', [RIGHT]), [200]],
    ['the token twice', requestText('GET /items/1', [RIGHT, RIGHT]), [401]],
    ['a wrong token, then the token', requestText('GET /items/1', ['authorization: Bearer x', RIGHT]), [401]],
    ['the token, then a wrong one', requestText('GET /items/1', [RIGHT, 'authorization: Bearer x']), [401]],
    ['the token as another header', requestText('GET /items/1', [`x-authorization: Bearer ${TOKEN}`]), [401]],
    ['the token in the query', requestText(`GET /items/1?authorization=Bearer%20${TOKEN}`), [401]],
    [
      'no token behind a request that had it',
      requestText('GET /items/1', [RIGHT]) + requestText('DELETE /items/1'),
      [200, 401],
    ],
    ['no token behind an open one', requestText('GET /open') + requestText('DELETE /items/1'), []],
    ['the token behind no token', requestText('GET /items/1') + requestText('GET /items/1', [RIGHT]), [401]],
    ['HTTP/1.0', 'DELETE /items/1 HTTP/1.0\r\n\r\n', [401]],
    ['an upgrade', requestText('DELETE /items/1', ['connection: upgrade', 'upgrade: websocket']), [401]],
    [
      'an upgrade to HTTP/2',
      requestText('DELETE /items/1', [
        'connection: upgrade, http2-settings',
        'upgrade: h2c',
        'http2-settings: AAMAAABkAAQAoAAAAAIAAAAA',
      ]),
      [401],
    ],
    ['a tunnel', requestText('CONNECT /items/1'), []],
    ['a tunnel to a host', requestText('CONNECT test:80', [RIGHT]), []],
    ['an absolute URL', requestText('DELETE http://test/items/1'), [401]],
    ['an absolute URL of an open route', requestText('GET http://test/open'), [200]],
    ['an absolute URL whose host is an open path', requestText('DELETE http://test/open/../items/1'), [401]],
    ['an open path behind which another follows', requestText('DELETE /open/../items/1'), [401]],
    ['an open path, encoded', requestText('DELETE /%6fpen/..%2fitems%2f1'), [401]],
    ['an open path with a slash too many', requestText('GET //open'), [401]],
    ['another method of an open path', requestText('DELETE /open'), [401]],
    ['HEAD of an open path', requestText('HEAD /open'), [200]],
    ['HEAD', requestText('HEAD /items/1'), [401]],
    ['OPTIONS', requestText('OPTIONS /items/1'), [401]],
    ['OPTIONS *', requestText('OPTIONS *'), [401]],
    ['a path without its slash', requestText('GET *items/1'), [401]],
    ['a path that does not exist', requestText('GET /nowhere'), [401]],
    ['a path that is no text', requestText('GET /items/%ff%fe'), [401]],
    ['a path that is no text, with the token', requestText('GET /items/%ff%fe', [RIGHT]), [400]],
    ['a parameter that is too long', requestText(`GET /items/${'a'.repeat(3_000)}`), [401]],
    ['a method that nothing serves', requestText('PROPFIND /items/1'), [401]],
    ['a body that is no JSON', requestText('POST /echo', [JSON_TYPE], '{'), [401]],
    ['a body for an open route', requestText('GET /open', [], '{}'), [400]],
    ['a body for GET', requestText('GET /items/1', [RIGHT], '{}'), [400]],
    ['a body for HEAD', requestText('HEAD /items/1', [RIGHT], '{}'), [400]],
    ['a body for GET, without the token', requestText('GET /items/1', [], '{}'), [401]],
    ['a body for a path that is no text', requestText('POST /items/%ff%fe', [], '{}'), [401]],
    ['an unknown expectation', requestText('DELETE /items/1', ['expect: nothing']), [401]],
    ['an unknown expectation, with the token', requestText('GET /items/1', [RIGHT, 'expect: nothing']), [200]],
  ])('%s', async (_, text, expected) => {
    expect(await statuses(tcp, text, expected.length)).toEqual(expected)
    expect(Probe.calls).toEqual(expected[0] === 200 && text.startsWith('GET /items/1') ? ['get'] : [])
  })

  it.each<[name: string, text: string, statuses: number[]]>([
    ['no token', requestText('GET /tree/1'), [401]],
    ['no token, for the tree itself', requestText('GET /tree'), [401]],
    ['no token, with a query', requestText('GET /tree?x'), [401]],
    ['a wrong token', requestText('GET /tree/1', [`${RIGHT}x`]), [401]],
    ['the token twice', requestText('GET /tree/1', [RIGHT, RIGHT]), [401]],
    [
      'no token behind a request that had it',
      requestText('GET /tree/1', [RIGHT]) + requestText('DELETE /tree/1'),
      [200, 401],
    ],
    [
      'no token behind one of the framework that had it',
      requestText('GET /items/1', [RIGHT]) + requestText('DELETE /tree/1'),
      [200, 401],
    ],
    ['no token behind an open one', requestText('GET /open') + requestText('DELETE /tree/1'), []],
    ['the token behind no token', requestText('GET /tree/1') + requestText('GET /tree/1', [RIGHT]), [401]],
    ['HTTP/1.0', 'DELETE /tree/1 HTTP/1.0\r\n\r\n', [401]],
    ['an upgrade', requestText('DELETE /tree/1', ['connection: upgrade', 'upgrade: tcp']), [401]],
    ['an absolute URL', requestText('DELETE http://test/tree/1'), [401]],
    ['an absolute URL, with the token', requestText('DELETE http://test/tree/1', [RIGHT]), [404]],
    ['an open path behind which another follows', requestText('DELETE /open/../tree/1'), [401]],
    ['a path below it that leads to an open one', requestText('GET /tree/../open'), [401]],
    ['another spelling', requestText('DELETE /%74ree/1'), [401]],
    ['another spelling, with the token', requestText('DELETE /%74ree/1', [RIGHT]), [404]],
    ['a slash too many, with the token', requestText('DELETE //tree/1', [RIGHT]), [404]],
    ['a longer word, with the token', requestText('DELETE /trees', [RIGHT]), [404]],
    ['HEAD', requestText('HEAD /tree/1'), [401]],
    ['a path that is no text', requestText('GET /tree/%ff%fe'), [401]],
    ['a method that nothing serves', requestText('PROPFIND /tree/1'), [401]],
    ['a body', requestText('POST /tree/1', [JSON_TYPE], '{'), [401]],
    ['a body for GET', requestText('GET /tree/1', [RIGHT], '{}'), [400]],
    ['a body for GET, without the token', requestText('GET /tree/1', [], '{}'), [401]],
  ])('a tree past the framework: %s', async (_, text, expected) => {
    expect(await statuses(tcp, text, expected.length)).toEqual(expected)
    expect(Probe.calls).toEqual(
      expected[0] !== 200 ? [] : text.startsWith('GET /tree/1') ? ['tree GET /tree/1'] : ['get'],
    )
  })

  it('a whole request and then a reset, fifty times: nothing runs', async () => {
    for (let attempt = 0; attempt < 50; attempt++) {
      await sendAndReset(tcp, requestText('DELETE /items/1'))
      await sendAndReset(tcp, requestText('POST /echo', [JSON_TYPE], BODY))
      await sendAndReset(tcp, requestText('DELETE /tree/1'))
      await sendAndReset(tcp, requestText('POST /tree/1', [JSON_TYPE], BODY))
    }
    // Accepted after all of those, and answered.
    expect(await statuses(tcp, requestText('GET /items/1', [RIGHT]), 1)).toEqual([200])
    expect(Probe.calls).toEqual(['get'])
  })

  it('decides before the body comes, and before it asks for the body', async () => {
    const expectation = ['expect: 100-continue', JSON_TYPE, 'content-length: 7']
    const client = await RawClient.connect(tcp)
    await client.send(requestText('POST /echo', expectation))
    expect(await client.receive(/\r\n\r\n/)).toMatch(/^HTTP\/1\.1 401 /)
    await client.closed
    expect(client.text).not.toContain('100 Continue')

    const known = await RawClient.connect(tcp)
    await known.send(requestText('POST /echo', [...expectation, RIGHT]))
    expect(await known.receive(/\r\n\r\n/)).toBe('HTTP/1.1 100 Continue\r\n\r\n')
    await known.send(BODY)
    expect(await known.receive(/"n":1\}$/)).toMatch(/^HTTP\/1\.1 201 /m)
    known.socket.destroy()
    expect(Probe.calls.splice(0)).toEqual(['echo'])

    const stranger = await RawClient.connect(tcp)
    await stranger.send(requestText('POST /tree/1', expectation))
    expect(await stranger.receive(/\r\n\r\n/)).toMatch(/^HTTP\/1\.1 401 /)
    await stranger.closed
    expect(stranger.text).not.toContain('100 Continue')
    expect(Probe.calls).toEqual([])
  })
})

it('a unix listener asks for nothing, also from a client that has gone', async () => {
  expect(await statuses(unix, requestText('GET /items/1'), 1)).toEqual([200])
  const client = await RawClient.connect(unix)
  await client.send(requestText('DELETE /items/1'))
  client.socket.destroy()
  await expect.poll(() => Probe.calls).toEqual(['get', 'delete'])
})

it('a listener that is not known refuses everything, open routes and the token too', async () => {
  for (const text of [
    requestText('GET /items/1', [RIGHT]),
    requestText('GET /open'),
    requestText('GET /tree/1', [RIGHT]),
  ]) {
    const client = await RawClient.connect(stranger)
    await client.send(text)
    expect(await client.receive(/\r\n\r\n/)).toMatch(/^HTTP\/1\.1 401 /)
    client.socket.destroy()
  }
  expect(Probe.calls).toEqual([])
})
