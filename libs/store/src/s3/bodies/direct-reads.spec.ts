import { once } from 'node:events'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { afterEach, expect, it } from 'vitest'
import type { Etag } from '../../objects/object-store.js'
import { DirectReads } from './direct-reads.js'

const BYTES = Buffer.from('0123456789abcdefghij')
const PIECE = { start: 4, end: 14, size: BYTES.length, etag: 'tag' as Etag }
const GOOD = {
  status: 'HTTP/1.1 206 Partial Content',
  'Content-Length': '10',
  'Content-Range': 'bytes 4-13/20',
  ETag: '"tag"',
}

let server: Server | undefined
let reads: DirectReads | undefined
const sockets: Socket[] = []
afterEach(() => {
  reads?.close()
  for (const socket of sockets.splice(0)) socket.destroy()
  server?.close()
})

/** A server that does with each request what `answer` says; `at` counts them, from 0. */
async function serve(answer: (socket: Socket, at: number, request: string) => void): Promise<URL> {
  let requests = 0
  server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => undefined)
    socket.on('data', (request) => answer(socket, requests++, request.toString()))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const endpoint = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  reads = new DirectReads(endpoint)
  return new URL('/bucket/key?signed=yes', endpoint)
}

function headOf(fields: Record<string, string | undefined>): string {
  const { status, ...others }: Record<string, string | undefined> = { ...GOOD, ...fields }
  const lines = Object.entries(others).flatMap(([name, value]) => (value === undefined ? [] : [`${name}: ${value}`]))
  return [status, ...lines, '', ''].join('\r\n')
}

async function read(url: URL, signal = new AbortController().signal): Promise<string> {
  const into = Buffer.alloc(10, '.')
  const length = await reads!.read(url, PIECE, into, signal)
  return into.toString('latin1', 0, length)
}

it('asks for the range of the state that it knows, and reads it, however the answer is cut', async () => {
  const requests: string[] = []
  const answer = headOf({}) + BYTES.toString('latin1', 4, 14)
  const url = await serve((socket, at, request) => {
    requests.push(request)
    const cut = (at * 7) % answer.length
    socket.setNoDelay(true)
    socket.write(answer.slice(0, cut))
    setImmediate(() => socket.write(answer.slice(cut)))
  })
  for (let round = 0; round < 20; round++) expect(await read(url)).toBe('456789abcd')
  expect(requests[0]).toBe(
    `GET /bucket/key?signed=yes HTTP/1.1\r\nHost: ${url.host}\r\nRange: bytes=4-13\r\nIf-Match: "tag"\r\n\r\n`,
  )
  expect(sockets).toHaveLength(1)
})

it.each<[string, Record<string, string | undefined>]>([
  ['the whole object, from a server that does not know ranges', { status: 'HTTP/1.1 200 OK', 'Content-Length': '20' }],
  ['another range', { 'Content-Range': 'bytes 0-9/20' }],
  ['a shorter range', { 'Content-Range': 'bytes 4-12/20' }],
  ['a range of an object of another size', { 'Content-Range': 'bytes 4-13/30' }],
  ['no range', { 'Content-Range': undefined }],
  ['another length than that of the range', { 'Content-Length': '11' }],
  ['no length', { 'Content-Length': undefined }],
  ['another state of the object', { ETag: '"other"' }],
  ['no state of the object', { ETag: undefined }],
  ['chunks', { 'Transfer-Encoding': 'chunked' }],
  ['a packed body', { 'Content-Encoding': 'gzip' }],
  ['an error', { status: 'HTTP/1.1 503 Slow Down' }],
  ['that the object has changed', { status: 'HTTP/1.1 412 Precondition Failed' }],
  ['interim news', { status: 'HTTP/1.1 103 Early Hints' }],
  ['in another version', { status: 'HTTP/1.0 206 Partial Content' }],
  ['no HTTP', { status: 'SSH-2.0-server' }],
  ['a head without an end', { 'X-Long': 'x'.repeat(20_000) }],
  ['a field twice, with two values', { 'content-length': '10' }],
])('takes nothing of an answer with %s, and closes its connection', async (_, fields) => {
  const url = await serve((socket) => socket.write(headOf(fields) + BYTES.toString('latin1', 4, 14)))
  expect(await read(url)).toBe('')
  await expect.poll(() => sockets[0]!.destroyed).toBe(true)
})

it('gives what came before the connection broke', async () => {
  const url = await serve((socket) => {
    socket.write(`${headOf({})}4567`)
    setImmediate(() => socket.destroySoon())
  })
  expect(await read(url)).toBe('4567')
})

it('does not use a connection again that has more to say, or is to be closed', async () => {
  const url = await serve((socket, at) => {
    socket.write(headOf(at === 1 ? { Connection: 'close' } : {}) + BYTES.toString('latin1', 4, 14))
  })
  expect(await read(url)).toBe('456789abcd')
  sockets[0]!.write('more')
  await expect.poll(() => sockets[0]!.destroyed).toBe(true)
  for (let round = 0; round < 2; round++) expect(await read(url)).toBe('456789abcd')
  await expect.poll(() => sockets[1]!.destroyed).toBe(true)
  expect(sockets).toHaveLength(3)
})

it('asks again on a new connection if the server has closed the one that it kept', async () => {
  const url = await serve((socket, at) => {
    if (at === 1) socket.destroy()
    else socket.write(headOf({}) + BYTES.toString('latin1', 4, 14))
  })
  expect(await read(url)).toBe('456789abcd')
  expect(await read(url)).toBe('456789abcd')
  expect(sockets).toHaveLength(2)
})

it('closes the connection when it is stopped, and writes nothing after that', async () => {
  const stop = new AbortController()
  const heard = Promise.withResolvers<undefined>()
  const url = await serve((socket) => {
    socket.write(`${headOf({})}4567`)
    heard.resolve(undefined)
  })
  const reading = read(url, stop.signal)
  await heard.promise
  stop.abort()
  expect('456789abcd'.startsWith(await reading)).toBe(true)
  await expect.poll(() => sockets[0]!.destroyed).toBe(true)
  expect(await read(url, stop.signal)).toBe('')
  expect(sockets).toHaveLength(1)
})

it('reads nothing where no server is, and after it was closed', async () => {
  const url = await serve(() => undefined)
  const reading = read(url)
  await expect.poll(() => sockets.length).toBe(1)
  reads!.close()
  expect(await reading).toBe('')
  expect(await read(url)).toBe('')
  server!.close()
  reads = new DirectReads(new URL('http://127.0.0.1:9'))
  expect(await read(url)).toBe('')
})
