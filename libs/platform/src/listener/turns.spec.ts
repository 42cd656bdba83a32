import { mkdtempSync, rmSync } from 'node:fs'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo, NetConnectOpts } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { continueBody, letClientPause } from './connection.js'
import { closeListener, openListener } from './open-listener.js'
import { type Listener } from './listener.js'
import { LIMITS } from '../testing/limits.js'
import { RawClient, requestText } from '../testing/raw-client.js'

interface Asked {
  readonly request: IncomingMessage
  readonly response: ServerResponse
}

let folder: string
let server: Server
/** The requests whose handler was called, in order. */
let asked: Asked[]
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'strata-turns-'))
  asked = []
})
afterEach(async () => {
  await closeListener(server, 0)
  rmSync(folder, { recursive: true })
})

const LISTENERS: [kind: string, listener: () => Listener][] = [
  ['unix', () => ({ kind: 'unix', path: join(folder, 's'), mode: 0o600 })],
  ['tcp', () => ({ kind: 'tcp', host: '127.0.0.1', port: 0 })],
]

async function open(
  listener: Listener,
  handler: (asked: Asked) => void = () => undefined,
  limits = LIMITS,
): Promise<NetConnectOpts> {
  server = await openListener(
    listener,
    (request, response) => {
      asked.push({ request, response })
      handler({ request, response })
    },
    limits,
  )
  return listener.kind === 'unix'
    ? { path: listener.path }
    : { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
}
const get = (path: string): string => requestText(`GET ${path}`)
const urls = (): (string | undefined)[] => asked.map(({ request }) => request.url)

describe.each(LISTENERS)('requests behind one another, %s:', (_, listener) => {
  it('one is served at a time, and each is answered', async () => {
    const client = await RawClient.connect(await open(listener()))
    await client.send(
      get('/1') +
        requestText('POST /2', [], 'the body') +
        requestText('POST /3', ['expect: 100-continue', 'content-length: 4']) +
        'more' +
        get('/4'),
    )
    for (const [at, path] of ['/1', '/2', '/3', '/4'].entries()) {
      await expect.poll(urls).toHaveLength(at + 1)
      const { request, response } = asked[at]!
      expect(request.url).toBe(path)
      continueBody(response)
      response.end(`${path} ${await text(request)}.`)
    }
    const answers = await client.receive(/\/4 \./)
    expect([...answers.matchAll(/\/\d [^.]*\./g)].join('')).toBe('/1 ./2 the body./3 more./4 .')
    client.socket.destroy()
  })

  it('none is served behind an answer that closes the connection', async () => {
    const client = await RawClient.connect(await open(listener()))
    await client.send(get('/1') + get('/2'))
    await expect.poll(urls).toEqual(['/1'])
    asked[0]!.response.writeHead(200, { connection: 'close' }).end()
    await client.closed
    expect(urls()).toEqual(['/1'])
  })

  it('none is served whose client has left', async () => {
    const client = await RawClient.connect(await open(listener()))
    await client.send(get('/1') + get('/2'))
    await expect.poll(urls).toEqual(['/1'])
    const closed = new Promise((resolve) => asked[0]!.response.once('close', resolve))
    client.socket.destroy()
    await closed
    expect(urls()).toEqual(['/1'])
  })

  it.each([[{ count: 17, closes: false }], [{ count: 18, closes: true }], [{ count: 1_000, closes: true }]])(
    'so many may wait: %j',
    async ({ count, closes }) => {
      const client = await RawClient.connect(
        await open(listener(), ({ response }) => {
          if (!closes) response.end('.')
        }),
      )
      await client.send(get('/').repeat(count))
      if (closes) await client.closed
      else await client.receive(new RegExp(`(\\r\\n\\r\\n[^]*){${count}}`))
      expect(asked).toHaveLength(closes ? 1 : count)
      client.socket.destroy()
    },
  )

  it.each([
    ['as large as it may be', requestText('POST /2', [], 'x'.repeat(4_096)), false],
    ['a byte larger', requestText('POST /2', [], 'x'.repeat(4_097)), true],
    ['announced only', requestText('POST /2', ['content-length: 4097']), true],
    ['of unknown length', requestText('POST /2', ['transfer-encoding: chunked']), true],
    ['asked for by 100 Continue', requestText('POST /2', ['expect: 100-continue', 'content-length: 4097']), true],
  ])('a body of one that waits: %s', async (_, behind, closes) => {
    const client = await RawClient.connect(await open(listener(), ({ response }) => closes || response.end('.')))
    await client.send(get('/1') + behind)
    if (closes) await client.closed
    else await client.receive(/(\r\n\r\n[^]*){2}/)
    expect(urls()).toEqual(closes ? ['/1'] : ['/1', '/2'])
    client.socket.destroy()
  })

  it('one with an expectation that nobody knows has its turn, too', async () => {
    const client = await RawClient.connect(await open(listener()))
    await client.send(get('/1') + requestText('GET /2', ['expect: cookies']))
    await expect.poll(urls).toEqual(['/1'])
    asked[0]!.response.end()
    await expect.poll(urls).toEqual(['/1', '/2'])
    client.socket.destroy()
  })
})

describe.each(LISTENERS)('an answer that is not read, %s:', (_, listener) => {
  it('is cut off; one that has nothing to send is not, nor one whose client may pause', async () => {
    const at = await open(
      listener(),
      ({ request, response }) => {
        if (request.url === '/paused') letClientPause(request)
        if (request.url === '/silent') response.flushHeaders()
        else for (let piece = 0; piece < 64; piece++) response.write(Buffer.alloc(1024 * 1024))
      },
      { ...LIMITS, unreadMs: 400 },
    )
    const silent = await RawClient.connect(at)
    await silent.send(get('/silent'))
    await silent.receive(/\r\n\r\n/)
    const paused = await RawClient.connect(at)
    paused.socket.pause()
    await paused.send(get('/paused'))
    await expect.poll(urls).toEqual(['/silent', '/paused'])
    const unread = await RawClient.connect(at)
    unread.socket.pause()
    await unread.send(get('/much'))
    await expect.poll(urls).toEqual(['/silent', '/paused', '/much'])
    // What the client sends meanwhile does not count.
    const trickle = setInterval(() => unread.socket.write('\r\n'), 50)
    await new Promise((resolve) => asked[2]!.response.once('close', resolve))
    clearInterval(trickle)
    expect(asked[2]!.response.writableFinished).toBe(false)
    asked[0]!.response.end('the end')
    await silent.receive(/the end/)
    expect(silent.text).toContain('the end')
    const finished = new Promise((resolve) =>
      asked[1]!.response.once('finish', () => resolve('sent')).once('close', () => resolve('cut off')),
    )
    paused.socket.resume()
    asked[1]!.response.end()
    expect(await finished).toBe('sent')
    silent.socket.destroy()
    paused.socket.destroy()
    unread.socket.destroy()
  })
})
