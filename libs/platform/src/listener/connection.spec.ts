import { mkdtempSync, rmSync } from 'node:fs'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo, NetConnectOpts } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { connectionOf, continueBody } from './connection.js'
import { closeListener, openListener } from './open-listener.js'
import { type Listener } from './listener.js'
import { LIMITS } from '../testing/limits.js'
import { RawClient, requestText } from '../testing/raw-client.js'

/*
 * What a client can do to a connection that has no place in a specification.
 */

interface Asked {
  readonly request: IncomingMessage
  readonly response: ServerResponse
}

let folder: string
let server: Server
let to: NetConnectOpts
/** The requests whose handler was called, in order. */
let asked: Asked[]
let answer: (asked: Asked) => unknown

const LISTENERS: [kind: string, listener: () => Listener][] = [
  ['unix', () => ({ kind: 'unix', path: join(folder, 's'), mode: 0o600 })],
  ['tcp', () => ({ kind: 'tcp', host: '127.0.0.1', port: 0 })],
]

/**
 * Ways to leave. A unix socket has no reset: the kernel reports one if something was left unread.
 */
const LEAVES: [how: string, leave: (client: RawClient) => unknown][] = [
  ['a reset', ({ socket }) => socket.resetAndDestroy()],
  ['a close', ({ socket }) => socket.destroy()],
  ['a half close', ({ socket }) => socket.end()],
]

describe.each(LISTENERS)('%s:', (kind, listener) => {
  const leaves = LEAVES.filter(([how]) => kind === 'tcp' || how !== 'a reset')

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'strata-connection-'))
    asked = []
    answer = () => undefined
    const opened = listener()
    server = await openListener(
      opened,
      (request, response) => {
        asked.push({ request, response })
        answer({ request, response })
      },
      LIMITS,
    )
    const { port } = { port: 0, ...(server.address() as AddressInfo | object) }
    to = opened.kind === 'unix' ? { path: opened.path } : { host: '127.0.0.1', port }
  })
  afterEach(async () => {
    await closeListener(server, 0)
    rmSync(folder, { recursive: true })
  })

  const urls = (): (string | undefined)[] => asked.map(({ request }) => request.url)
  const connections = (): Promise<number> =>
    new Promise((resolve, reject) => {
      server.getConnections((error, count) => (error ? reject(error) : resolve(count)))
    })
  /** Nothing of any request is left: every connection, response and turn is over. */
  const expectNothing = async (): Promise<void> => {
    await expect.poll(connections).toBe(0)
    await expect.poll(() => asked.filter(({ response }) => !response.closed)).toEqual([])
    expect(asked.flatMap(({ request }) => connectionOf(request.socket)?.turns ?? [])).toEqual([])
  }

  const get = (path: string): string => requestText(`GET ${path}`)
  const chunked = requestText('POST /4', ['transfer-encoding: chunked'])
  const SEVERAL =
    get('/1') +
    requestText('POST /2', [], 'twelve bytes') +
    requestText('POST /3', ['expect: 100-continue'], 'x') +
    get('/4')

  describe.each(leaves)('%s', (_, leave) => {
    it('after any byte of several requests, whatever is being answered: nothing stays', async () => {
      const behaviours: ((asked: Asked) => unknown)[] = [
        () => undefined,
        ({ response }) => response.end('.'),
        ({ request, response }) => request.resume().once('end', () => response.end('.')),
        ({ response }) => {
          continueBody(response)
          response.write('x'.repeat(100_000))
        },
      ]
      for (const behaviour of behaviours) {
        answer = behaviour
        for (let length = 1; length <= SEVERAL.length; length += 7) {
          const client = await RawClient.connect(to)
          await client.send(SEVERAL.slice(0, length))
          leave(client)
          client.socket.resume()
          await client.closed
        }
      }
      await expectNothing()
    })

    it('after any part of an answer: nothing stays', async () => {
      answer = ({ response }) => {
        for (let piece = 0; piece < 16; piece++) response.write(Buffer.alloc(256 * 1024))
        response.end()
      }
      for (const bytes of [1, 100, 70_000, 1_000_000, 4_000_000]) {
        const client = await RawClient.connect(to)
        await client.send(get('/1') + get('/2'))
        while (client.text.length < bytes) await new Promise((resolve) => client.socket.once('data', resolve))
        leave(client)
        await client.closed
      }
      await expectNothing()
    })

    it('while requests wait, also with bodies: the answer under way ends, and none of them is served', async () => {
      const client = await RawClient.connect(to)
      await client.send(get('/1') + requestText('POST /2', [], 'x'.repeat(4_000)).repeat(16))
      await expect.poll(urls).toEqual(['/1'])
      leave(client)
      await expectNothing()
      expect(urls()).toEqual(['/1'])
    })
  })

  it.each([
    ['more than its headers say', 'content-length: 100000'],
    ['in pieces', 'transfer-encoding: chunked'],
  ])('a client that sends a body behind a request, %s, and then leaves, is noticed', async (_, header) => {
    const client = await RawClient.connect(to)
    await client.send(get('/1') + requestText('POST /2', [header]))
    // More than Node buffers of a body that nobody reads, after which it would not look at the
    // socket.
    for (let piece = 0; piece < 8; piece++) client.socket.write(`8000\r\n${'x'.repeat(0x8000)}\r\n`)
    await client.closed
    await expectNothing()
    expect(urls()).toEqual(['/1'])
  })

  it.each([
    ['a length', ['content-length: 27'], 'GET /smuggled HTTP/1.1\r\nx: '],
    ['pieces', ['transfer-encoding: chunked'], `1b\r\nGET /smuggled HTTP/1.1\r\nx: \r\n0\r\n\r\n`],
  ])('a body with %s that arrives after the answer is a body, and the connection goes on', async (_, headers, body) => {
    answer = ({ request, response }) => response.end(`${request.url}.`)
    const client = await RawClient.connect(to)
    await client.send(requestText('POST /1', headers))
    await client.receive(/\/1\./)
    for (const byte of body) await client.send(byte)
    await client.send(get('/2'))
    await client.receive(/\/2\./)
    expect(urls()).toEqual(['/1', '/2'])
    client.socket.destroy()
    await expectNothing()
  })

  it('a body that goes on a byte at a time after its answer does not keep the connection', async () => {
    answer = ({ response }) => response.end('.')
    const client = await RawClient.connect(to)
    await client.send(requestText('POST /1', ['content-length: 1000000']))
    await client.receive(/\r\n\r\n/)
    const trickle = setInterval(() => client.socket.write('x'), 100)
    await client.closed
    clearInterval(trickle)
    await expectNothing()
  })

  it.each<[name: string, text: string]>([
    ['two lengths', requestText('POST /1', ['content-length: 1', 'content-length: 2'], 'xx')],
    ['a length and pieces', requestText('POST /1', ['content-length: 5', 'transfer-encoding: chunked'], '0\r\n\r\n')],
    ['a coding that is not the last', requestText('POST /1', ['transfer-encoding: chunked, identity'], '0\r\n\r\n')],
    ['a length that is negative', requestText('POST /1', ['content-length: -1'])],
    ['a length with a sign', requestText('POST /1', ['content-length: +1'], 'x')],
    ['a line that goes on in the next', requestText('GET /1', ['a: b\r\n c: d'])],
    ['a header without a name', requestText('GET /1', [': x'])],
    ['a name with a blank behind it', requestText('GET /1', ['content-length : 1'], 'x')],
    ['no host', 'GET /1 HTTP/1.1\r\n\r\n'],
    ['line feeds alone', 'GET /1 HTTP/1.1\nhost: test\ncontent-length: 1\n\nx'],
    ['a NUL in a header', requestText('GET /1', ['x: a\0b'])],
    ['a tunnel', requestText('CONNECT test:80')],
    ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
  ])('%s: no handler is called, and the connection ends', async (_, text) => {
    const client = await RawClient.connect(to)
    await client.send(text)
    await client.closed
    expect(client.text).not.toMatch(/ 2\d\d /)
    expect(urls()).toEqual([])
    await expectNothing()
  })

  it.each(['the URL', 'a header'])(
    '%s that is too long is answered 431, also to a client that sends all of it first',
    async (what) => {
      const long = 'a'.repeat(4 * 1024 * 1024)
      const client = await RawClient.connect(to)
      await client.send(what === 'the URL' ? requestText(`GET /${long}`) : requestText('GET /1', [`x: ${long}`]))
      await client.receive(/\r\n\r\n/)
      expect(client.text).toMatch(/^HTTP\/1\.1 431 /)
      client.socket.end()
      await client.closed
      await expectNothing()
    },
  )

  it('what is no request behind one that is being served ends it', async () => {
    const client = await RawClient.connect(to)
    await client.send(`${get('/1')}nonsense\r\n\r\n`)
    await client.closed
    await expectNothing()
  })

  it('a body that says its pieces wrongly ends its request', async () => {
    answer = ({ request }) => request.resume().on('error', () => undefined)
    const client = await RawClient.connect(to)
    await client.send(`${chunked}zz\r\n`)
    await client.closed
    await expectNothing()
  })
})
