import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, truncateSync } from 'node:fs'
import { chmod, readFile } from 'node:fs/promises'
import { Agent, request as httpRequest, type IncomingMessage, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer, Agent as TlsAgent, request as tlsRequest } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { digestOf, type Digest } from '@strata/oci'
import { closeListener, openListener, type Listener } from '@strata/platform'
import { RawClient, requestText } from '@strata/platform/testing'
import { BlobStore, freshDataKey, Leases, type FolderStore } from '@strata/store'
import { temporaryStore } from '@strata/store/testing'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { sendRanged } from './ranged-body.js'

/*
 * Blobs of a folder on their way to clients of plain HTTP: sendfile(2), and how it waits.
 */

const MIB = 1024 * 1024
/** More than the kernel holds for a client that reads nothing. */
const LARGE = 16 * MIB
const LEASE = 'the-lease'

let folder: string
let store: FolderStore
let blobs: BlobStore
let dispose: () => Promise<void>
let server: Server
/** What the server has accepted. */
let sockets: Socket[]
let thrown: unknown[]

const whole = randomBytes(LARGE)
const digest = digestOf(whole)
let data: string
const pieceSizes = [3 * MIB + 1, 1, 10 * MIB, 100, 2 * MIB]

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strata-sent-files-'))
  ;({ store, dispose } = await temporaryStore())
  blobs = new BlobStore(store)
  await new Leases(store).create(LEASE, { job: { kind: 'push', id: LEASE }, request: {} })
  data = await putObject(whole)
  await blobs.commit(digest, { data, size: LARGE }, LEASE)
})
afterEach(() => closeListener(server, 0))
afterAll(async () => {
  await dispose()
  rmSync(folder, { recursive: true })
})

async function putObject(bytes: Uint8Array): Promise<string> {
  const key = freshDataKey(LEASE)
  await store.put(key, bytes)
  return key
}
async function putPieces(bytes: Buffer): Promise<readonly string[]> {
  const pieces: { data: string; size: number }[] = []
  let at = 0
  for (const size of pieceSizes) {
    pieces.push({ data: await putObject(bytes.subarray(at, at + size)), size })
    at += size
  }
  await blobs.commit(digestOf(bytes), { pieces, size: at }, LEASE)
  return pieces.map((piece) => piece.data)
}
const inPieces = (): Buffer => randomBytes(pieceSizes.reduce((sum, size) => sum + size))

const serve: RequestListener = (request, response) => {
  const wanted = decodeURIComponent((request.url ?? '').slice(1)) as Digest
  blobs
    .stat(wanted)
    .then(async (record) => {
      if (!record) throw new Error('no such blob')
      await sendRanged(request, response, {
        size: record.size,
        etag: wanted,
        type: 'application/octet-stream',
        parts: (range) => blobs.parts(wanted, range, record),
      })
    })
    .catch((error: unknown) => {
      thrown.push(error)
      response.writeHead(500).end()
    })
}

interface To {
  readonly host?: string
  readonly port?: number
  readonly socketPath?: string
}
async function open(listener: Listener, unreadMs = 60_000): Promise<To> {
  sockets = []
  thrown = []
  server = await openListener(listener, serve, { connections: 100, headersMs: 10_000, unreadMs })
  server.on('connection', (socket: Socket) => sockets.push(socket))
  return listener.kind === 'unix'
    ? { socketPath: listener.path }
    : { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
}
const TCP: Listener = { kind: 'tcp', host: '127.0.0.1', port: 0 }
const LISTENERS: [kind: string, listener: () => Listener][] = [
  ['tcp', () => TCP],
  ['unix', () => ({ kind: 'unix', path: join(folder, 's'), mode: 0o600 })],
]

/** An answer that is not read yet. */
async function ask(to: To, of: Digest, headers: Record<string, string> = {}, agent: Agent | false = false) {
  const request = httpRequest({ ...to, path: `/${of}`, headers, agent }).end()
  request.on('error', () => undefined)
  const [answer] = (await once(request, 'response')) as [IncomingMessage]
  answer.on('error', () => undefined)
  return answer
}
/** All that comes of it, and whether the connection says that this is all. */
async function read(answer: IncomingMessage): Promise<{ bytes: Buffer; isWhole: boolean }> {
  const pieces: Buffer[] = []
  try {
    for await (const piece of answer as AsyncIterable<Buffer>) pieces.push(piece)
  } catch {
    // Broken off.
  }
  return { bytes: Buffer.concat(pieces), isWhole: answer.complete }
}
/** Files of the store that this process has open. */
function openFiles(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`)
      return path.includes('/objects/data/') ? [path] : []
    } catch {
      return []
    }
  })
}
/** It stands still: everything that the kernel holds for it is full, and Node waits. */
async function standsStill(socket: Socket): Promise<void> {
  await expect.poll(() => socket.writableLength).toBeGreaterThan(0)
  let last = -1
  // Node waits for the same write at two looks.
  await expect
    .poll(
      () => {
        const before = last
        last = socket.bytesWritten
        return socket.writableLength > 0 && before === last
      },
      { interval: 100 },
    )
    .toBe(true)
}

/**
 * Ways to leave. A unix socket has no reset: the kernel reports one if something was left unread.
 */
const LEAVES: [how: string, leave: (socket: Socket) => unknown][] = [
  ['a reset', (socket) => socket.resetAndDestroy()],
  ['a close', (socket) => socket.destroy()],
  ['a half close', (socket) => socket.end()],
]
const rawly = (to: To) =>
  RawClient.connect(to.socketPath === undefined ? { host: to.host!, port: to.port! } : { path: to.socketPath })

describe.each(LISTENERS)('%s:', (kind, listener) => {
  it('a blob and its parts are sent byte for byte, past Node, and the connection goes on', async () => {
    const to = await open(listener())
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    const pieces = inPieces()
    await putPieces(pieces)
    let sent = 0
    for (const [of, bytes] of [
      [digest, whole],
      [digestOf(pieces), pieces],
    ] as const)
      for (const [start, end] of [
        [0, bytes.length],
        [0, 1],
        [3 * MIB, 3 * MIB + 5],
        [65_536, 65_537],
        [3 * MIB - 1, bytes.length - 1],
        [bytes.length - 1, bytes.length],
      ] as const) {
        const isPart = start > 0 || end < bytes.length
        const answer = await ask(to, of, isPart ? { range: `bytes=${start}-${end - 1}` } : {}, agent)
        expect(answer.statusCode).toBe(isPart ? 206 : 200)
        expect((await buffer(answer)).equals(bytes.subarray(start, end))).toBe(true)
        sent += end - start
      }
    agent.destroy()
    expect(sockets).toHaveLength(1)
    expect(sockets[0]!.bytesWritten).toBeLessThan(sent / 2)
    expect(thrown).toEqual([])
    await expect.poll(openFiles).toEqual([])
  })

  it('requests in one packet are answered in their order', async () => {
    const to = await open(listener())
    const client = await rawly(to)
    const ranges = [
      [0, 2 * MIB],
      [MIB, MIB + 1],
      [5 * MIB, 8 * MIB],
    ] as const
    await client.send(
      ranges.map(([start, end]) => requestText(`GET /${digest}`, [`range: bytes=${start}-${end - 1}`])).join(''),
    )
    let at = 0
    for (const [start, end] of ranges) {
      await expect.poll(() => client.text.indexOf('\r\n\r\n', at)).toBeGreaterThan(0)
      const body = client.text.indexOf('\r\n\r\n', at) + 4
      expect(client.text.slice(at, body)).toContain(`content-range: bytes ${start}-${end - 1}/`)
      at = body + end - start
      await expect.poll(() => client.text.length).toBeGreaterThanOrEqual(at)
      expect(client.text.slice(body, at) === whole.subarray(start, end).toString('latin1')).toBe(true)
    }
    client.socket.destroy()
  })

  it('clients that stop reading hold no thread, no more than one file each, and get the rest when they go on', async () => {
    const to = await open(listener())
    const stopped = await Promise.all(Array.from({ length: 6 }, () => ask(to, digest)))
    await Promise.all(sockets.map(standsStill))
    expect(openFiles().length).toBeLessThanOrEqual(stopped.length)
    // More clients than the pool has threads, and files and one more client are served.
    expect((await readFile(store.localPath(data))).equals(whole)).toBe(true)
    expect((await buffer(await ask(to, digest))).equals(whole)).toBe(true)
    const last = stopped.pop()!
    for (const answer of stopped) answer.destroy()
    expect((await buffer(last)).equals(whole)).toBe(true)
    await expect.poll(openFiles).toEqual([])
  })

  it('a client that takes nothing is cut off, and nothing of it stays', async () => {
    const to = await open(listener(), 400)
    const answer = await ask(to, digest)
    const closed = new Promise((resolve) => answer.once('close', resolve))
    await once(sockets[0]!, 'close')
    answer.resume()
    await closed
    expect(answer.complete).toBe(false)
    await expect.poll(openFiles).toEqual([])
  })

  it.each(LEAVES.filter(([how]) => kind === 'tcp' || how !== 'a reset'))(
    'a client that leaves in the middle, by %s, leaves nothing',
    async (_, leave) => {
      const to = await open(listener())
      for (const bytes of [1, 100_000, 4 * MIB, 12 * MIB]) {
        const client = await rawly(to)
        await client.send(requestText(`GET /${digest}`))
        while (client.text.length < bytes) await once(client.socket, 'data')
        leave(client.socket)
        await client.closed
      }
      await expect.poll(openFiles).toEqual([])
      await expect.poll(() => sockets.filter((socket) => !socket.destroyed)).toEqual([])
      expect(thrown).toEqual([])
    },
  )
})

it('a blob that is deleted while it is sent comes whole', async () => {
  const to = await open(TCP)
  const bytes = randomBytes(LARGE)
  const key = await putObject(bytes)
  await blobs.commit(digestOf(bytes), { data: key, size: LARGE }, LEASE)
  const answer = await ask(to, digestOf(bytes))
  await standsStill(sockets[0]!)
  await store.delete([key])
  const got = await read(answer)
  expect([got.isWhole, got.bytes.equals(bytes)]).toEqual([true, true])
})

it('a blob whose later piece is deleted while it is sent is broken off, and no byte of it is wrong', async () => {
  const to = await open(TCP)
  const bytes = Buffer.concat([randomBytes(LARGE), randomBytes(LARGE)])
  const keys = [await putObject(bytes.subarray(0, LARGE)), await putObject(bytes.subarray(LARGE))]
  const pieces = keys.map((key) => ({ data: key, size: LARGE }))
  await blobs.commit(digestOf(bytes), { pieces, size: bytes.length }, LEASE)
  const answer = await ask(to, digestOf(bytes))
  await standsStill(sockets[0]!)
  await store.delete([keys[1]!])
  const got = await read(answer)
  expect(got.isWhole).toBe(false)
  expect(got.bytes.equals(bytes.subarray(0, got.bytes.length))).toBe(true)
  expect(got.bytes.length).toBeLessThanOrEqual(LARGE)
})

it('a file that has another size than its blob is an error, and nothing of it is sent', async () => {
  const to = await open(TCP)
  const bytes = randomBytes(MIB)
  const key = await putObject(bytes)
  await blobs.commit(digestOf(bytes), { data: key, size: MIB }, LEASE)
  await chmod(store.localPath(key), 0o600)
  truncateSync(store.localPath(key), MIB - 1)
  const answer = await ask(to, digestOf(bytes))
  expect([answer.statusCode, (await read(answer)).bytes.length]).toEqual([500, 0])
  expect(thrown).toEqual([expect.objectContaining({ code: 'corrupt' })])
  await expect.poll(openFiles).toEqual([])
})

it('over TLS the file is read and encrypted; one that is cut meanwhile ends its connection', async () => {
  await open(TCP)
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-subj', '/CN=localhost', '-keyout', key, '-out', cert],
    ],
    { stdio: 'ignore' },
  )
  const tls = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert), keepAliveTimeout: 0 }, serve)
  await once(tls.listen(0, '127.0.0.1'), 'listening')
  const { port } = tls.address() as AddressInfo
  const [answer] = (await once(
    tlsRequest({ host: '127.0.0.1', port, path: `/${digest}`, rejectUnauthorized: false, agent: false }).end(),
    'response',
  )) as [IncomingMessage]
  expect((await buffer(answer)).equals(whole)).toBe(true)
  const bytes = randomBytes(LARGE)
  const shortened = await putObject(bytes)
  await blobs.commit(digestOf(bytes), { data: shortened, size: LARGE }, LEASE)
  // The connection would be kept for another request: its end is the only sign.
  const agent = new TlsAgent({ keepAlive: true })
  const [cut] = (await once(
    tlsRequest({ host: '127.0.0.1', port, path: `/${digestOf(bytes)}`, rejectUnauthorized: false, agent })
      .on('error', () => undefined)
      .end(),
    'response',
  )) as [IncomingMessage]
  await chmod(store.localPath(shortened), 0o600)
  truncateSync(store.localPath(shortened), LARGE - MIB)
  const { bytes: came, isWhole } = await read(cut)
  expect([isWhole, came.equals(bytes.subarray(0, came.length))]).toEqual([false, true])
  agent.destroy()
  tls.close()
  await expect.poll(openFiles).toEqual([])
})
