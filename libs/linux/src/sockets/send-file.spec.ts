import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { hasRoomSoon } from '../index.js'

let client: Socket
let accepted: Socket
let close: () => void
beforeEach(async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const connection = once(server, 'connection') as Promise<[Socket]>
  client = connect({ host: '127.0.0.1', port: (server.address() as AddressInfo).port })
  client.on('error', () => undefined).pause()
  accepted = (await connection)[0].on('error', () => undefined)
  close = () => void server.close()
})
afterEach(() => {
  client.destroy()
  accepted.destroy()
  close()
})

it('a socket has room, and none once its client reads nothing; a thread waits for one of them only', async () => {
  expect(await hasRoomSoon(accepted)).toBe(true)
  // More than the kernel holds for a client that reads nothing. Node gives it the rest as it can.
  accepted.write(Buffer.alloc(64 * 1024 * 1024))
  await expect.poll(() => hasRoomSoon(accepted)).toBe(false)
  const first = hasRoomSoon(accepted)
  expect(await hasRoomSoon(accepted)).toBe(false)
  expect(await first).toBe(false)
  client.resume()
  await expect.poll(() => hasRoomSoon(accepted)).toBe(true)
})

it('a socket that is broken or closed has no room', async () => {
  client.resetAndDestroy()
  await new Promise((resolve) => accepted.once('close', resolve))
  expect(await hasRoomSoon(accepted)).toBe(false)
})
