import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import { concat, file, ZEROS } from '@strata/archive/testing'
import { receiveNow, systemSocketOf } from '@strata/linux'
import { FolderStore, listAll, mendTail } from '@strata/store'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { bytesLeft, createIntake, type Intake, type ReceiveOptions } from '../index.js'

let root: string
let store: FolderStore
let intake: Intake
let expected: Record<string, Buffer>
const layer = concat(file('etc/hosts', 'localhost'), file('big', randomBytes(9_000_000)), ZEROS)
const archive = concat(
  file('manifest.json', '[]'),
  file('layer.tar', layer),
  file('random', randomBytes(4_000_000)),
  ZEROS,
)

/**
 * What became of the requests: of each its error's code or `taken`, and how many bytes were left,
 * if its socket was taken over.
 */
interface Outcome {
  readonly result: string
  readonly left: number | undefined
  readonly drained: number
}
let outcomes: Outcome[]
let options: Partial<ReceiveOptions>
let drains: boolean
let uploads = 0
const servers: Server[] = []

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'strata-socket-source-'))
  store = await FolderStore.open(join(root, 'store'), mendTail)
  intake = createIntake({ store, readers: 2 })
  await intake.receive(Readable.from([archive]), { upload: 'expected' })
  expected = await objects('expected')
  for (const where of [join(root, 'sock'), { port: 0, host: '127.0.0.1' }]) {
    const server = createServer((request, response) => {
      if (request.method === 'GET') return void response.end('hello')
      response.shouldKeepAlive = false
      const upload = request.url!.slice(1)
      void intake
        .receive(request, { upload, ...options })
        .then(
          () => 'taken',
          (error: unknown) => (error as { code: string }).code,
        )
        .then(async (result) => {
          const left = bytesLeft(request)
          outcomes.push({ result, left, drained: drains ? await drain(request, left!) : 0 })
          response.end(result)
        })
    })
    server.listen(where)
    await once(server, 'listening')
    servers.push(server)
  }
})
afterAll(async () => {
  for (const server of servers) server.close().closeAllConnections()
  await intake.close()
  await store.close()
  rmSync(root, { recursive: true, force: true })
})
beforeEach(() => {
  outcomes = []
  options = {}
  drains = false
})

/** Reads and drops so many bytes of a body, and what comes with them. */
async function drain(request: IncomingMessage, length: number): Promise<number> {
  let drained = 0
  for await (const piece of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    drained += piece.length
    if (drained >= length) break
  }
  return drained
}

async function objects(upload: string): Promise<Record<string, Buffer>> {
  const all: Record<string, Buffer> = {}
  for await (const { key } of listAll(store, `data/${upload}/`))
    all[key.slice(upload.length + 6)] = readFileSync(store.localPath(key))
  return all
}
async function sameAsExpected(upload: string): Promise<void> {
  const found = await objects(upload)
  expect(Object.keys(found)).toEqual(Object.keys(expected))
  for (const [name, bytes] of Object.entries(found))
    expect(
      name === 'listing' ? bytes.toString().replaceAll(upload, 'expected') : bytes.equals(expected[name]!),
      name,
    ).toEqual(name === 'listing' ? expected[name]!.toString() : true)
}
const nextUpload = () => `u${++uploads}`
const open = (server: Server): Socket => {
  const address = server.address() as AddressInfo | string
  return (typeof address === 'string' ? connect(address) : connect(address.port, '127.0.0.1')).on(
    'error',
    () => undefined,
  )
}
const head = (upload: string, length: number, more = ''): string =>
  `PUT /${upload} HTTP/1.1\r\nhost: x\r\ncontent-length: ${length}\r\n${more}\r\n`
async function answerOf(socket: Socket): Promise<string> {
  let text = ''
  for await (const piece of socket as AsyncIterable<Buffer>) text += piece.toString('latin1')
  return text
}
const outcome = async (): Promise<Outcome> =>
  expect
    .poll(() => outcomes[0])
    .toBeDefined()
    .then(() => outcomes[0]!)
const nothing = async (upload: string) => expect(await objects(upload)).toEqual({})
/** Not the store's inotify: it stays from the first list of a folder that has just changed. */
const openFiles = () =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) !== 'anon_inode:inotify'
    } catch {
      return false // That of this list.
    }
  }).length

for (const [kind, at] of [
  ['a unix socket', 0],
  ['TCP', 1],
] as const) {
  describe(`over ${kind}, a body with a length`, () => {
    const server = () => servers[at]!
    let before: number
    beforeEach(() => (before = openFiles()))
    afterEach(() => expect.poll(openFiles).toBeLessThanOrEqual(before))

    it('is taken from the socket, and comes to the same', async () => {
      const upload = nextUpload()
      const socket = open(server())
      socket.write(head(upload, archive.length))
      socket.write(archive)
      expect(await answerOf(socket)).toMatch(
        /^HTTP\/1.1 200 OK\r\n(.+\r\n)*connection: close\r\n(.+\r\n)*\r\n(?:5\r\n)?taken/i,
      )
      expect(await outcome()).toMatchObject({ result: 'taken', left: 0 })
      await sameAsExpected(upload)
    })

    it('is taken whole, packed as it is', async () => {
      const upload = nextUpload()
      const packed = gzipSync(layer)
      options = { whole: true }
      const socket = open(server())
      socket.write(head(upload, packed.length))
      socket.write(packed)
      expect(await answerOf(socket)).toContain('taken')
      expect(await outcome()).toMatchObject({ left: 0 })
      const found = await objects(upload)
      expect(Object.keys(found)).toEqual(['0', 'listing', 'small'])
      expect(found['0']!.equals(packed)).toBe(true)
    })

    it('that comes slowly leaves the readers to others, and comes to the same', async () => {
      // Nothing of the body; a byte, by which nobody knows yet how it is packed; a part that is no
      // multiple of a header; byte by byte.
      const slow = [0, 1, 1_000_123, 300_000].map((begun) => ({ begun, upload: nextUpload(), socket: open(server()) }))
      for (const { begun, upload, socket } of slow) {
        socket.write(head(upload, archive.length))
        socket.write(archive.subarray(0, begun))
      }
      let dripped = slow[3]!.begun
      const drip = setInterval(() => slow[3]!.socket.write(archive.subarray(dripped, ++dripped)), 20)
      try {
        for (const upload of [nextUpload(), nextUpload(), nextUpload()]) {
          const socket = open(server())
          socket.write(head(upload, archive.length))
          socket.write(archive)
          expect(await answerOf(socket)).toContain('taken')
          await sameAsExpected(upload)
        }
      } finally {
        clearInterval(drip)
      }
      slow[3]!.begun = dripped
      for (const { begun, upload, socket } of slow) {
        socket.write(archive.subarray(begun))
        expect(await answerOf(socket)).toContain('taken')
        await sameAsExpected(upload)
      }
      expect(outcomes).toEqual(Array.from({ length: 7 }, () => ({ result: 'taken', left: 0, drained: 0 })))
    })

    it('in pieces of any size, after other requests, with its end closed', async () => {
      const upload = nextUpload()
      const socket = open(server())
      socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
      await once(socket, 'data')
      const message = Buffer.concat([Buffer.from(head(upload, archive.length)), archive])
      for (let from = 0; from < message.length;) {
        const piece = message.subarray(from, (from += 1 + Math.floor(Math.random() * 400_000)))
        if (!socket.write(piece)) await once(socket, 'drain')
        if (from % 3 === 0) await new Promise(setImmediate)
      }
      socket.end()
      expect(await answerOf(socket)).toContain('taken')
      expect(await outcome()).toMatchObject({ left: 0 })
      await sameAsExpected(upload)
    })

    it('after 100 Continue', async () => {
      const upload = nextUpload()
      const socket = open(server())
      socket.write(head(upload, archive.length, 'expect: 100-continue\r\n'))
      expect(String((await once(socket, 'data'))[0])).toMatch(/^HTTP\/1.1 100 Continue/)
      socket.write(archive)
      expect(await answerOf(socket)).toContain('taken')
      expect(await outcome()).toMatchObject({ left: 0 })
      await sameAsExpected(upload)
    })

    it('to its last byte and no further', async () => {
      const upload = nextUpload()
      const behind = 'GET /next HTTP/1.1\r\nhost: x\r\n\r\n'
      const socket = open(server())
      const seen: string[] = []
      options = {
        onProgress: ({ bytes }) => {
          const below = outcomes.length === 0 && bytes === archive.length ? connections(server()) : undefined
          if (below !== undefined) seen.push(below)
        },
      }
      socket.write(Buffer.concat([Buffer.from(head(upload, archive.length)), archive, Buffer.from(behind)]))
      expect(await answerOf(socket)).toContain('taken')
      expect(seen.at(-1)).toBe(behind)
      await sameAsExpected(upload)
    })

    it('packed, short, chunked or HTTP/1.0 comes as a stream', async () => {
      const packed = gzipSync(archive)
      const small = concat(file('a', 'x'), ZEROS)
      const chunk = (bytes: Buffer) =>
        Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n0\r\n\r\n')])
      for (const message of [
        [head(nextUpload(), packed.length), packed],
        [head(nextUpload(), small.length), small],
        [`PUT /${nextUpload()} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n`, chunk(archive)],
        [head(nextUpload(), archive.length).replace('HTTP/1.1', 'HTTP/1.0'), archive],
      ] as const) {
        outcomes = []
        const socket = open(server())
        socket.write(message[0])
        socket.write(message[1])
        expect(await answerOf(socket)).toContain('taken')
        expect(await outcome()).toMatchObject({ result: 'taken', left: undefined })
      }
    })

    it('more at once than there are threads for', async () => {
      const all = Array.from({ length: 5 }, async () => {
        const upload = nextUpload()
        const socket = open(server())
        socket.write(head(upload, archive.length))
        socket.write(archive)
        expect(await answerOf(socket)).toContain('taken')
        await sameAsExpected(upload)
      })
      await Promise.all(all)
    })

    it('whose client leaves, by a close or a reset', async () => {
      for (const leave of ['destroy', 'resetAndDestroy'] as const) {
        if (leave === 'resetAndDestroy' && at === 0) continue
        outcomes = []
        const upload = nextUpload()
        const socket = open(server())
        options = {
          onProgress: ({ bytes }) => {
            if (bytes > 2_000_000) socket[leave]()
          },
        }
        socket.write(head(upload, archive.length))
        socket.write(archive.subarray(0, 3_000_000))
        expect(await outcome()).toMatchObject({ result: 'upload_interrupted' })
        await nothing(upload)
      }
    })

    it('whose client falls silent', async () => {
      for (const length of [0, 2_000_000]) {
        outcomes = []
        options = { limits: { idleMs: 300 } }
        const upload = nextUpload()
        const socket = open(server())
        socket.write(head(upload, archive.length))
        socket.write(archive.subarray(0, length))
        expect(await answerOf(socket)).toContain('upload_interrupted')
        await nothing(upload)
      }
    })

    it('is stopped while a client is silent', async () => {
      const stop = new AbortController()
      const upload = nextUpload()
      const socket = open(server())
      options = {
        signal: stop.signal,
        onProgress: ({ bytes }) => {
          if (bytes >= 2_000_000) stop.abort()
        },
      }
      socket.write(head(upload, archive.length))
      socket.write(archive.subarray(0, 2_000_000))
      expect(await answerOf(socket)).toContain('cancelled')
      expect(await outcome()).toMatchObject({ left: archive.length - 2_000_000 })
      await nothing(upload)
    })

    it('refused early: the rest is Node’s again, to the last byte', async () => {
      const upload = nextUpload()
      drains = true
      const bad = Buffer.concat([file('a', 'x'), randomBytes(30_000_000)])
      const socket = open(server())
      socket.write(head(upload, bad.length))
      socket.write(bad)
      expect(await answerOf(socket)).toContain('archive_invalid')
      const { left, drained } = await outcome()
      expect(left).toBeGreaterThan(0)
      expect(drained).toBe(left)
      await nothing(upload)
    })

    it('beyond the limit of bytes', async () => {
      options = { limits: { bytes: 2_000_000 } }
      const upload = nextUpload()
      const socket = open(server())
      socket.write(head(upload, archive.length))
      socket.write(archive)
      expect((await outcome()).result).toBe('limit_exceeded')
      socket.destroy()
      await nothing(upload)
    })
  })
}

/** What lies unread in the socket of the one connection that the server has. */
function connections(server: Server): string | undefined {
  const sockets = server as unknown as { [key: symbol]: { all(): { socket: Socket }[] } }
  const list = Object.getOwnPropertySymbols(sockets)
    .map((symbol) => sockets[symbol])
    .find((value) => typeof (value as { all?: unknown } | undefined)?.all === 'function')
  const below = list
    ?.all()
    .map(({ socket }) => systemSocketOf(socket))
    .find((found) => found !== undefined)
  if (below === undefined) return undefined
  const buffer = Buffer.alloc(1000)
  const length = receiveNow(below.fd, buffer)
  return length === undefined ? undefined : buffer.toString('latin1', 0, length)
}
