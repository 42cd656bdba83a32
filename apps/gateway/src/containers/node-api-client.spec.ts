import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { NodeApiName } from '@strata/api'
import type { NodeRecord } from '@strata/queue'
import { StrataError } from '@strata/base'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { ASKING, ASKED_AS, LET_GO_MS, LOOK_MS, MOST_MISSED, NodeApiClient, type Asking } from './node-api-client.js'

/**
 * A node that takes every request and answers none: a stopped process, or a machine that lost its
 * power.
 */
let server: Server
let folder: string
let node: NodeRecord
let asked: string[]
let sockets: Set<Socket>
/** What Redis tells of living nodes. */
let alive: () => Promise<NodeRecord[]>
let client: NodeApiClient
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strata-node-api-'))
  writeFileSync(join(folder, 'secret'), 'x'.repeat(64), { mode: 0o600 })
  asked = []
  sockets = new Set()
  server = createServer((request) => void asked.push(request.url ?? ''))
  server.on('connection', (socket) => void sockets.add(socket.once('close', () => sockets.delete(socket))))
  await new Promise<void>((resolve) => server.listen(join(folder, 'door'), resolve))
  node = {
    id: 'n',
    door: `unix://${join(folder, 'door')}`,
    host: '',
    driver: 'erofs',
    driverReason: '',
    runtime: '',
    kernel: '',
    warnings: [],
  }
  alive = () => Promise.resolve([node])
  client = new NodeApiClient(
    { STRATA_NODE_SECRET_FILE: join(folder, 'secret') },
    { list: () => alive(), statuses: () => Promise.resolve([]) },
  )
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] })
})
afterEach(async () => {
  vi.useRealTimers()
  client.onApplicationShutdown()
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
  rmSync(folder, { recursive: true })
})

const KINDS = Object.keys(ASKING) as Asking[]
const ROUTE: Readonly<Record<Asking, NodeApiName>> = {
  glance: 'launchFailure',
  question: 'getContainer',
  command: 'killContainer',
  stop: 'stopContainer',
  follow: 'waitContainer',
}
/** Not `vi.waitFor`: each of its looks would advance the clock, which is not real here. */
async function until(state: () => boolean): Promise<void> {
  while (!state()) await new Promise((resolve) => setImmediate(resolve))
}
/** Asks, until the node has the request. The outcome is the error's code, once it is there. */
async function ask(as: Asking, gone = new AbortController().signal): Promise<{ outcome: string | undefined }> {
  expect(ASKED_AS[ROUTE[as]]).toBe(as)
  const result: { outcome: string | undefined } = { outcome: undefined }
  const before = asked.length
  client
    .call(node, ROUTE[as], { params: { id: 'c/1' } }, gone)
    .catch((error: unknown) => (result.outcome = error instanceof StrataError ? error.code : String(error)))
  await until(() => asked.length > before)
  expect(asked.length).toBe(before + 1)
  return result
}
const noConnection = (): Promise<void> => until(() => sockets.size === 0)

it.each(KINDS.filter((as) => ASKING[as].withinMs !== undefined))('a %s ends when its time is over', async (as) => {
  const { withinMs = 0 } = ASKING[as]
  const result = await ask(as)
  await vi.advanceTimersByTimeAsync(withinMs / 2)
  expect(result.outcome).toBeUndefined()
  await vi.advanceTimersByTimeAsync(withinMs / 2)
  await until(() => result.outcome !== undefined)
  expect(result.outcome).toBe('node_unavailable')
  await noConnection()
})

it.each(KINDS.filter((as) => ASKING[as].withinMs === undefined))(
  'a %s goes on for as long as the node is registered',
  async (as) => {
    const result = await ask(as)
    await vi.advanceTimersByTimeAsync(24 * 3600 * 1000)
    expect(result.outcome).toBeUndefined()
    expect(sockets.size).toBe(1)
  },
)

it.each(KINDS)('a %s ends when its node is not registered any more', async (as) => {
  const result = await ask(as)
  alive = () => Promise.resolve([])
  await vi.advanceTimersByTimeAsync(MOST_MISSED * LOOK_MS)
  await until(() => result.outcome !== undefined)
  expect(result.outcome).toBe('node_unavailable')
  await noConnection()
})

it('Redis that is away, or was emptied a moment ago, ends nothing', async () => {
  const result = await ask('follow')
  alive = () => Promise.reject(new StrataError('queue_unavailable', 'away'))
  await vi.advanceTimersByTimeAsync(10 * MOST_MISSED * LOOK_MS)
  alive = () => Promise.resolve([])
  await vi.advanceTimersByTimeAsync((MOST_MISSED - 1) * LOOK_MS)
  alive = () => Promise.resolve([node])
  await vi.advanceTimersByTimeAsync(LOOK_MS)
  alive = () => Promise.resolve([])
  await vi.advanceTimersByTimeAsync((MOST_MISSED - 1) * LOOK_MS)
  expect(result.outcome).toBeUndefined()
  expect(sockets.size).toBe(1)
})

it.each(KINDS.filter((as) => ASKING[as].letGoMs === 0))('a %s ends when its client leaves', async (as) => {
  const client = new AbortController()
  const result = await ask(as, client.signal)
  client.abort()
  await until(() => result.outcome !== undefined)
  expect(result.outcome).toBe('cancelled')
  await noConnection()
})

it.each(KINDS.filter((as) => ASKING[as].letGoMs > 0))(
  'a %s whose client has left before it was sent reaches the node, then keeps no connection',
  async (as) => {
    const result = await ask(as, AbortSignal.abort())
    expect(asked).toEqual([expect.stringMatching(/^\/containers\/c%2F1\//)])
    expect(result.outcome).toBeUndefined()
    await vi.advanceTimersByTimeAsync(LET_GO_MS)
    await until(() => result.outcome !== undefined)
    expect(result.outcome).toBe('cancelled')
    await noConnection()
  },
)

it('300 clients that leave keep no connection', async () => {
  const clients = Array.from({ length: 300 }, () => new AbortController())
  const outcomes = clients.map(({ signal }) =>
    client.call(node, 'getContainer', { params: { id: 'c' } }, signal).catch((error: unknown) => error),
  )
  await until(() => asked.length >= 300)
  expect(asked.length).toBe(300)
  for (const client of clients) client.abort()
  await Promise.all(outcomes)
  await noConnection()
})
