import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { expect, it } from 'vitest'
import { Body } from './body.js'

const IDLE_MS = 200

it('a client whose bytes came while this process stood still was not silent; one that sends nothing is', async () => {
  const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [[socket]] = (await Promise.all([once(server, 'connection'), once(client, 'connect')])) as [[Socket], unknown]
  let came = 0
  const pumped = new Body(socket).pump(
    () => undefined,
    (length) => (came += length),
    { idleMs: IDLE_MS, whole: true, ratio: 1, stop: new AbortController().signal },
  )
  try {
    client.write(Buffer.alloc(1_000))
    await expect.poll(() => came, { interval: 10 }).toBe(1_000)
    // From here the event loop looks at its timers first.
    await new Promise(setImmediate)
    client.write(Buffer.alloc(1_000))
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2 * IDLE_MS)
    await expect(pumped).rejects.toMatchObject({ code: 'upload_interrupted' })
    expect(came).toBe(2_000)
  } finally {
    client.destroy()
    socket.destroy()
    server.close()
  }
})
