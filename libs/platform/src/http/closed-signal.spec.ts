import { mkdtempSync, rmSync } from 'node:fs'
import type { Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { closedSignal } from './closed-signal.js'
import { closeListener, openListener } from '../listener/open-listener.js'
import { LIMITS } from '../testing/limits.js'
import { RawClient, requestText } from '../testing/raw-client.js'

let folder: string
let server: Server
let responses: ServerResponse[]
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strata-closed-'))
  responses = []
  server = await openListener(
    { kind: 'tcp', host: '127.0.0.1', port: 0 },
    (_request, response) => void responses.push(response),
    LIMITS,
  )
})
afterEach(async () => {
  await closeListener(server, 0)
  rmSync(folder, { recursive: true })
})

/** A client whose request is being served, with another one behind it, which is not. */
async function asked(): Promise<RawClient> {
  const client = await RawClient.connect({ host: '127.0.0.1', port: (server.address() as AddressInfo).port })
  await client.send(requestText('GET /').repeat(2))
  await expect.poll(() => responses.length).toBe(1)
  return client
}
const LEAVES: [string, (client: RawClient) => unknown][] = [
  ['resets its connection', ({ socket }) => socket.resetAndDestroy()],
  ['closes it', ({ socket }) => socket.destroy()],
  ['closes its sending side', ({ socket }) => socket.end()],
]

it.each(LEAVES)('aborts when the client %s, and the request behind is not served', async (_, leave) => {
  const client = await asked()
  const signal = closedSignal(responses[0]!)
  expect(signal.aborted).toBe(false)
  leave(client)
  await expect.poll(() => signal.aborted).toBe(true)
  expect(responses).toHaveLength(1)
})

it.each(LEAVES)('starts aborted when the client has %s before', async (_, leave) => {
  const client = await asked()
  leave(client)
  await expect.poll(() => responses[0]?.req.socket.destroyed).toBe(true)
  expect(closedSignal(responses[0]!).aborted).toBe(true)
})

it('aborts when the answer is sent, and starts aborted after that; the connection goes on', async () => {
  const client = await asked()
  const signal = closedSignal(responses[0]!)
  responses[0]!.end('first')
  await client.receive(/first/)
  await expect.poll(() => signal.aborted).toBe(true)
  expect(closedSignal(responses[0]!).aborted).toBe(true)
  await expect.poll(() => responses.length).toBe(2)
  expect(closedSignal(responses[1]!).aborted).toBe(false)
  client.socket.destroy()
})
