import { once } from 'node:events'
import { createServer, request, type ClientRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { chunkOf, withChunk } from './request-chunk.js'

/** Serves one request, whose body `send` sends. */
async function served(
  serve: (incoming: IncomingMessage, response: ServerResponse) => Promise<void>,
  send: (client: ClientRequest) => void,
): Promise<void> {
  const serving = Promise.withResolvers<undefined>()
  const server = createServer((incoming, response) => {
    serve(incoming, response).then(() => serving.resolve(undefined), serving.reject)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const client = request({ host: '127.0.0.1', port, method: 'PATCH', agent: false })
  client.on('error', () => undefined)
  try {
    send(client)
    await serving.promise
  } finally {
    client.destroy()
    server.closeAllConnections()
    server.close()
  }
}

it('a body that is not read to its end can be dropped', async () => {
  let dropped = 0
  await served(
    async (incoming, response) => {
      // One piece, as of a chunk that turns out to be too large.
      const pieces = chunkOf(incoming, { idleMs: 10_000, bytesPerSecond: 0 })!.source[Symbol.asyncIterator]()
      await pieces.next()
      await pieces.return(undefined)
      incoming.on('data', (piece: Buffer) => (dropped += piece.length))
      incoming.resume()
      await once(incoming, 'end')
      response.end('all of it came')
    },
    (client) => client.end(Buffer.alloc(5_000_000)),
  )
  expect(dropped).toBeGreaterThan(4_000_000)
})

it('a body that is left while its client is waited for can be dropped', async () => {
  let dropped = 0
  await served(
    async (incoming, response) => {
      const left = withChunk(incoming, { idleMs: 10_000, bytesPerSecond: 0 }, (chunk) => {
        // As of a request that another one supersedes.
        void chunk!.source[Symbol.asyncIterator]().next()
        return Promise.reject(new Error('superseded'))
      })
      await expect(left).rejects.toThrow('superseded')
      response.writeContinue()
      incoming.on('data', (piece: Buffer) => (dropped += piece.length))
      incoming.resume()
      await once(incoming, 'end')
      response.end('all of it came')
    },
    (client) => {
      client.flushHeaders()
      client.once('continue', () => client.end(Buffer.alloc(5_000_000)))
    },
  )
  expect(dropped).toBe(5_000_000)
})

it('a client that sends a byte now and then has sent its last one, and one that has to wait for us has not', async () => {
  let [dripped, waited] = [0, 0]
  await served(
    async (incoming) => {
      const slowest = { idleMs: 300, bytesPerSecond: 1_000 }
      const drip = async (): Promise<void> => {
        for await (const bytes of chunkOf(incoming, slowest)!.source) dripped += bytes.length
      }
      await expect(drip()).rejects.toMatchObject({ code: 'request_timeout' })
    },
    (client) => {
      const dripping = setInterval(() => client.write('x'), 20)
      client.once('close', () => clearInterval(dripping))
    },
  )
  expect(dripped).toBeGreaterThan(1)
  await served(
    async (incoming) => {
      // So slow is the reader, not the client.
      for await (const bytes of chunkOf(incoming, { idleMs: 1_000, bytesPerSecond: 1_000_000 })!.source) {
        waited += bytes.length
        await delay(bytes.length / 500)
      }
    },
    (client) => client.end(Buffer.alloc(1_000_000)),
  )
  expect(waited).toBe(1_000_000)
})

it('a time in which this process stood still is not the client’s, neither as silence nor in its rate', async () => {
  const stoodStill = (milliseconds: number): void =>
    void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
  let came = 0
  await served(
    async (incoming) => {
      for await (const bytes of chunkOf(incoming, { idleMs: 300, bytesPerSecond: 1_000 })!.source) came += bytes.length
    },
    (client) => {
      client.once('socket', (socket) => {
        socket.once('connect', () => {
          let left = 2
          const send = (): void => {
            // The kernel has it before this process stands still.
            client.write(Buffer.alloc(2_500), () => {
              stoodStill(3_000)
              if (--left > 0) setTimeout(send, 10)
              else client.end()
            })
          }
          setTimeout(send, 10)
        })
      })
    },
  )
  expect(came).toBe(5_000)
}, 60_000)
