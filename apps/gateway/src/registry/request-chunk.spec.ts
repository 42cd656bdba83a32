import { once } from 'node:events'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, it } from 'vitest'
import { chunkOf } from './request-chunk.js'

it('a body that is not read to its end can be dropped', async () => {
  let dropped = 0
  const server = createServer((incoming, response) => {
    void (async () => {
      // One piece, as of a chunk that turns out to be too large.
      const pieces = chunkOf(incoming, 10_000)!.source[Symbol.asyncIterator]()
      await pieces.next()
      await pieces.return?.()
      incoming.on('data', (piece: Buffer) => (dropped += piece.length))
      incoming.resume()
      await once(incoming, 'end')
      response.end('all of it came')
    })()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    const { port } = server.address() as AddressInfo
    const client = request({ host: '127.0.0.1', port, method: 'PATCH', agent: false })
    client.end(Buffer.alloc(5_000_000))
    const [answer] = (await once(client, 'response')) as [{ statusCode: number }]
    expect(answer.statusCode).toBe(200)
    expect(dropped).toBeGreaterThan(4_000_000)
  } finally {
    server.closeAllConnections()
    server.close()
  }
})
