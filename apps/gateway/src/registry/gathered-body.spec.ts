import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, request, type ClientRequest, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, it } from 'vitest'
import { GatheredBody } from './gathered-body.js'

/** What `take` gives of the body of one request, which `send` sends. */
async function received<T>(
  take: (request: IncomingMessage) => Promise<T>,
  send: (client: ClientRequest) => unknown,
): Promise<T> {
  const taken = Promise.withResolvers<T>()
  const server = createServer((incoming) => void take(incoming).then(taken.resolve, taken.reject))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const client = request({ host: '127.0.0.1', port, method: 'PATCH', agent: false })
  client.on('error', () => undefined)
  try {
    send(client)
    return await taken.promise
  } finally {
    client.destroy()
    server.closeAllConnections()
    server.close()
  }
}

const PATIENT = { idleMs: 60_000, bytesPerSecond: 0 }
const lengthOf = ({ headers }: IncomingMessage): number | undefined =>
  headers['content-length'] === undefined ? undefined : Number(headers['content-length'])

/** The chunks, each copied, and read `pause` after it was lent. */
async function chunksOf(incoming: IncomingMessage, pause?: () => Promise<unknown>): Promise<Buffer[]> {
  const chunks: Buffer[] = []
  for await (const chunk of new GatheredBody(incoming, PATIENT, lengthOf(incoming))) {
    await pause?.()
    chunks.push(Buffer.from(chunk))
  }
  return chunks
}

const turn = (): Promise<unknown> => new Promise((resolve) => setImmediate(resolve))
/** The reader is behind: what can be received meanwhile has come. */
async function turns(): Promise<void> {
  for (let count = 0; count < 20; count++) await turn()
}

const whole = randomBytes(3_000_000)
const SENDERS: [how: string, send: (client: ClientRequest) => unknown][] = [
  ['in one write', (client) => client.end(whole)],
  ['with its length', (client) => client.setHeader('content-length', whole.length).end(whole)],
  [
    'in small chunks, many in one packet',
    (client) => {
      client.on('socket', (socket) => {
        const pieces: Buffer[] = []
        for (let at = 0; at < whole.length; at += 700) {
          const piece = whole.subarray(at, at + 700)
          pieces.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n'))
        }
        client.flushHeaders()
        socket.once('connect', () => socket.write(Buffer.concat([...pieces, Buffer.from('0\r\n\r\n')])))
      })
    },
  ],
]

it.each(SENDERS)('a body sent %s comes whole, in large chunks, however far behind its reader is', async (_, send) => {
  for (const pause of [undefined, turn, turns]) {
    const chunks = await received((incoming) => chunksOf(incoming, pause), send)
    expect(Buffer.concat(chunks).equals(whole)).toBe(true)
    expect(chunks.length).toBeLessThan(whole.length / 200_000)
  }
})

it('a body has no more memory than its length', async () => {
  const backing = await received(
    async (incoming) => {
      for await (const chunk of new GatheredBody(incoming, PATIENT, lengthOf(incoming))) return chunk.buffer.byteLength
      return 0
    },
    (client) => client.setHeader('content-length', 10).end('0123456789'),
  )
  expect(backing).toBe(10)
})

it('what came of a body that breaks off is given before the error', async () => {
  const chunks: Buffer[] = []
  const part = whole.subarray(0, 700_000)
  const failed = received(
    async (incoming) => {
      let came = 0
      for await (const chunk of new GatheredBody(incoming, PATIENT, lengthOf(incoming))) {
        chunks.push(Buffer.from(chunk))
        came += chunk.length
        // The last part of what was sent is on its way, or here and not yet a chunk.
        if (came > 500_000) setImmediate(() => incoming.socket.destroy())
      }
    },
    (client) => client.setHeader('content-length', whole.length).write(part),
  )
  await expect(failed).rejects.toMatchObject({ code: 'upload_interrupted' })
  const came = Buffer.concat(chunks)
  expect(came.length).toBeGreaterThan(500_000)
  expect(came.equals(part.subarray(0, came.length))).toBe(true)
})

it('the bytes of a client that is silent are given before the error', async () => {
  const chunks: Buffer[] = []
  const failed = received(
    async (incoming) => {
      for await (const chunk of new GatheredBody(incoming, { idleMs: 300, bytesPerSecond: 0 }))
        chunks.push(Buffer.from(chunk))
    },
    (client) => client.write('some bytes'),
  )
  await expect(failed).rejects.toMatchObject({ code: 'request_timeout' })
  expect(Buffer.concat(chunks).toString()).toBe('some bytes')
})

it('a body that was broken off before it is read is an error', async () => {
  const failed = received(
    async (incoming) => {
      incoming.once('error', () => undefined).socket.destroy()
      await new Promise((resolve) => incoming.once('close', resolve))
      return chunksOf(incoming)
    },
    (client) => client.write('some bytes'),
  )
  await expect(failed).rejects.toMatchObject({ code: 'upload_interrupted' })
})
