import { mkdtempSync, rmSync } from 'node:fs'
import type { Server } from 'node:http'
import type { AddressInfo, NetConnectOpts } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { NestFastifyApplication } from '@nestjs/platform-fastify'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { allowEveryone, secretInHeader } from '../http/authentication.js'
import { createHttpApp } from '../http/http-app.js'
import type { Listener } from './listener.js'
import { loggingModule } from '../service/logging.js'
import { closeListener, openListener } from './open-listener.js'
import { Attach } from '../testing/attach-app.js'
import { BODIES, LIMITS } from '../testing/limits.js'
import { Probed } from '../testing/probe-app.js'
import { RawClient, requestText } from '../testing/raw-client.js'

const TOKEN = 'authorization: Bearer the-token-of-this-test'
const UPGRADE = ['connection: Upgrade', 'upgrade: tcp']

let folder: string
let app: NestFastifyApplication
let server: Server
let to: NetConnectOpts
let client: RawClient | undefined

const LISTENERS: [kind: string, listener: () => Listener, headers: readonly string[]][] = [
  ['unix', () => ({ kind: 'unix', path: join(folder, 's'), mode: 0o600 }), []],
  ['tcp', () => ({ kind: 'tcp', host: '127.0.0.1', port: 0 }), [TOKEN]],
]

describe.each(LISTENERS)('%s:', (kind, listener, headers) => {
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'strata-upgrade-'))
    Attach.taken.length = 0
    const made = await createHttpApp(
      { module: Probed, imports: [loggingModule('silent')], controllers: [Attach] },
      {
        authentication: {
          unix: allowEveryone,
          tcp: secretInHeader('authorization', TOKEN.replace('authorization: ', '')),
          refusal: 'send the token',
        },
        bodies: BODIES,
      },
    )
    app = made.app
    const opened = listener()
    server = await openListener(opened, made.handler, LIMITS)
    const { port } = { port: 0, ...(server.address() as AddressInfo | object) }
    to = opened.kind === 'unix' ? { path: opened.path } : { host: '127.0.0.1', port }
  })
  afterEach(async () => {
    client?.socket.destroy()
    client = undefined
    await closeListener(server, 0)
    await app.close()
    rmSync(folder, { recursive: true })
  })
  const connections = (): Promise<number> =>
    new Promise((resolve, reject) => server.getConnections((error, n) => (error ? reject(error) : resolve(n))))
  const attach = (): string => requestText('POST /attach', [...headers, ...UPGRADE])

  it('bytes go both ways, also those sent with the request, and after the client has ended its direction', async () => {
    client = await RawClient.connect(to)
    await client.send(`${attach()}get / http/1.1\r\n\r\n`)
    expect(await client.receive(/GET \/ HTTP/)).toMatch(
      /^HTTP\/1\.1 101 [^\r]+\r\n(?:[^\r]+\r\n)*upgrade: tcp\r\n\r\nGET \/ HTTP\/1\.1\r\n\r\n$/,
    )
    expect(client.text).toContain('content-type: application/vnd.docker.raw-stream\r\n')
    await client.send(Buffer.from([0x61, 0, 0xf7, 0x7a]))
    await client.receive(/A\0\xf7Z/)
    client.socket.end()
    await client.closed
    expect(client.text.endsWith('A\0\xf7Zthe end')).toBe(true)
    await expect.poll(connections).toBe(0)
  })

  it('it may come after other requests, but not before they are answered', async () => {
    client = await RawClient.connect(to)
    await client.send(requestText('GET /plain', headers))
    await client.receive(/an answer/)
    await client.send(`${attach()}x`)
    await client.receive(/ 101 [^]*X/)
    client.socket.destroy()
    client = await RawClient.connect(to)
    await client.send(requestText('GET /plain', headers) + attach())
    await client.closed
    expect(Attach.taken).toHaveLength(1)
  })

  it.each([
    ['a route that hands nothing over', 'GET /plain', UPGRADE, / 200 [^]*an answer$/],
    ['no such route', 'GET /nowhere', UPGRADE, / 404 /],
    ['another protocol', 'GET /plain', ['connection: Upgrade', 'upgrade: h2c'], / 200 [^]*an answer$/],
    ['no upgrade where one is needed', 'POST /attach', [], / 400 [^]*Upgrade: tcp/],
    [
      'an upgrade with a body',
      'POST /attach',
      [...UPGRADE, 'content-type: application/json', 'content-length: 2'],
      / 400 [^]*Upgrade: tcp/,
    ],
  ])('%s: an ordinary answer', async (_, line, more, expected) => {
    client = await RawClient.connect(to)
    await client.send(requestText(line, [...headers, ...more], more.includes('content-length: 2') ? '{}' : ''))
    expect(await client.receive(expected)).toMatch(expected)
    expect(Attach.taken).toEqual([])
  })

  it('an ordinary answer to an upgrade is whole, however large it is', async () => {
    client = await RawClient.connect(to)
    await client.send(requestText('GET /large', [...headers, ...UPGRADE]))
    await client.closed
    expect(client.text.match(/^HTTP\/1\.1 200 /)).not.toBeNull()
    expect(client.text.match(/x+/g)?.reduce((sum, piece) => sum + piece.length, 0)).toBeGreaterThanOrEqual(16_777_216)
  })

  it('an ordinary answer to an upgrade ends the connection: nothing that is sent behind it is a request', async () => {
    client = await RawClient.connect(to)
    await client.send(requestText('GET /plain', [...headers, ...UPGRADE]) + requestText('GET /plain', headers))
    await client.closed
    expect(client.text.match(/an answer/g)).toHaveLength(1)
    await expect.poll(connections).toBe(0)
  })

  it('a client that leaves closes the socket, however it leaves', async () => {
    for (const leave of [
      ({ socket }: RawClient) => socket.destroy(),
      ({ socket }: RawClient) => (kind === 'tcp' ? socket.resetAndDestroy() : socket.destroy()),
    ]) {
      const leaving = await RawClient.connect(to)
      await leaving.send(attach())
      await leaving.receive(/ 101 /)
      leave(leaving)
      await expect.poll(connections).toBe(0)
    }
  })

  it('a listener that closes ends what was handed over', async () => {
    client = await RawClient.connect(to)
    await client.send(attach())
    await client.receive(/ 101 /)
    await closeListener(server, 0)
    await client.closed
    expect(Attach.taken[0]?.destroyed).toBe(true)
  })

  const needsToken = kind === 'tcp'
  it(`without the token ${needsToken ? 'nothing is handed over, and what is sent is not read' : 'it is handed over'}`, async () => {
    client = await RawClient.connect(to)
    await client.send(`${requestText('POST /attach', UPGRADE)}abc`)
    if (!needsToken) {
      await client.receive(/ABC/)
      return
    }
    expect(await client.receive(/unauthorized/)).toMatch(/^HTTP\/1\.1 401 /)
    client.socket.end()
    await client.closed
    expect(Attach.taken).toEqual([])
    expect(client.text).not.toContain('ABC')
  })
})
