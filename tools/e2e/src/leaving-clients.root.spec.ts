import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { header } from '@strata/archive/testing'
import { RawClient, requestText } from '@strata/platform/testing'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { layerOf, loadBusybox } from './testing/busybox-image.js'
import { freePort } from '@strata/store/testing'
import { StrataUnderTest, until } from './testing/strata.js'
import { SERVICES } from './testing/topology.js'

const ref = encodeURIComponent('leave:1')
let strata: StrataUnderTest
let gateway: { host: string; port: number }
let token: string
let container: string
/** A load whose body does not end, for a job that does not end. */
let receiving: { readonly job: string; readonly body: PassThrough }
beforeAll(async () => {
  gateway = { host: '127.0.0.1', port: await freePort() }
  strata = await StrataUnderTest.start({ environment: { STRATA_LISTEN: `127.0.0.1:${gateway.port}` } })
  token = `authorization: Bearer ${readFileSync(strata.tokenFile, 'utf8').trim()}`
  await loadBusybox(strata, 'leave:1', [await layerOf({ large: { content: Buffer.alloc(8_000_000, 'x') } })])
  container = (
    await strata.request('POST', '/v1/containers', {
      image: 'leave:1',
      command: ['sh', '-c', 'while :; do echo line; sleep 0.05; done'],
      attach: true,
    })
  ).json<{ id: string }>().id
  receiving = { job: randomUUID(), body: new PassThrough() }
  receiving.body.on('error', () => undefined).write(header({ name: 'big', size: 50_000_000 }))
  strata.request('POST', `/v1/images?job=${receiving.job}`, receiving.body).catch(() => undefined)
  await until(
    async () => (await strata.request('GET', `/v1/jobs/${receiving.job}`)).status === 200,
    'the load has begun',
  )
})
afterAll(async () => {
  receiving.body.destroy()
  await strata.dispose()
})

/**
 * What each service has open. Sockets aside: connections between services are kept for a while. And
 * folders aside: a store holds those that it lists, and a watch of them, for a while, whoever asks.
 */
function openFiles(): string[] {
  return [...new Set(SERVICES.map((service) => strata.pid(service)))]
    .flatMap((pid) =>
      readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
        try {
          const path = `/proc/${pid}/fd/${fd}`
          if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return []
          const target = readlinkSync(path)
          return /^(socket:|anon_inode:inotify)/.test(target) ? [] : [target.replace(/\d+/g, 'N')]
        } catch {
          return []
        }
      }),
    )
    .sort()
}
/**
 * Connections of the gateway's TCP listener, by the kernel's table (proc_net_tcp(5)): those that
 * are established, or that the gateway has not closed.
 */
function connections(): number {
  const port = gateway.port.toString(16).toUpperCase().padStart(4, '0')
  return readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .filter((line) => new RegExp(`^\\s*\\d+: [0-9A-F]{8}:${port} \\S+ (?:01|08) `).test(line)).length
}

const LEAVES: ((client: RawClient) => unknown)[] = [
  ({ socket }) => socket.resetAndDestroy(),
  ({ socket }) => socket.destroy(),
  ({ socket }) => socket.end(),
]

/**
 * When a client leaves: `part`, when it has sent a part of its request; `begun`, when its answer
 * has begun, if it does while the gateway answers MANY other requests; a number, when the gateway
 * has answered so many others since.
 */
type Moment = 'part' | 'begun' | number
const MANY = 32
const MOMENTS: readonly Moment[] = ['part', 0, 1, 'begun', 2, 4, 8, 'begun', 16, MANY]

/** Asks, and leaves at a moment between the request and well into its answer. */
async function leave(text: string, how: (client: RawClient) => unknown, moment: Moment): Promise<void> {
  const client = await RawClient.connect(gateway)
  await client.send(moment === 'part' ? text.slice(0, text.length / 2) : text)
  const others = moment === 'part' ? 0 : moment === 'begun' ? MANY : moment
  for (let answered = 0; answered < others && !(moment === 'begun' && client.text !== ''); answered++)
    await strata.request('GET', '/v1/health/live')
  how(client)
  await client.closed
}
const post = (path: string, body: unknown): string =>
  requestText(`POST ${path}`, [token, 'content-type: application/json'], JSON.stringify(body))
const get = (path: string): string => requestText(`GET ${path}`, [token])
const upload = (path: string): string =>
  requestText(
    `POST ${path}`,
    [token, 'content-type: application/x-tar', 'content-length: 50000000'],
    header({ name: 'big', size: 49_000_000 }).toString('latin1'),
  )

it.each<[name: string, text: () => string]>([
  ['logs', () => get(`/v1/containers/${container}/logs`)],
  ['logs?follow', () => get(`/v1/containers/${container}/logs?follow=true`)],
  ['logs?attach', () => get(`/v1/containers/${container}/logs?attach=true`)],
  ['logs?follow of one stream', () => get(`/v1/containers/${container}/logs?follow=true&stream=stderr&tail=1`)],
  [
    'logs?follow with a body that nobody reads',
    () => requestText(`GET /v1/containers/${container}/logs?follow=true`, [token], 'x'.repeat(300_000)),
  ],
  [
    'logs?follow before a load',
    () => get(`/v1/containers/${container}/logs?follow=true`) + upload('/v1/images') + 'x'.repeat(300_000),
  ],
  ['wait', () => post(`/v1/containers/${container}/wait`, {})],
  ['events', () => get(`/v1/jobs/${receiving.job}/events`)],
  ['export', () => get(`/v1/images/${ref}/export`)],
  ['an archive', () => get(`/v1/archive?image=${ref}`)],
  ['files', () => get(`/v1/images/${ref}/files?path=/`)],
  ['a file', () => get(`/v1/images/${ref}/file?path=/large`)],
  ['a difference', () => get(`/v1/images/${ref}/diff?layer=1`)],
  ['history', () => get(`/v1/images/${ref}/history`)],
  ['a load', () => upload('/v1/images')],
  ['an import', () => upload('/v1/images?import=leave-import:1')],
  ['a mount', () => post(`/v1/images/${ref}/mount`, {})],
  ['a collection', () => post('/v1/gc', {})],
  [
    'logs behind another request',
    () => post(`/v1/containers/${container}/wait`, {}) + get(`/v1/containers/${container}/logs?follow=true`),
  ],
  [
    'a file behind another request',
    () => post(`/v1/containers/${container}/wait`, {}) + get(`/v1/images/${ref}/file?path=/large`),
  ],
])('clients that leave %s: nothing stays open', async (_, text) => {
  // What is made at the first use stays.
  await leave(text(), LEAVES[1]!, 'begun')
  await until(() => connections() === 0, 'the first has left')
  const before = await settled()
  await Promise.all(
    Array.from({ length: 30 }, (_each, at) =>
      leave(text(), LEAVES[at % LEAVES.length]!, MOMENTS[at % MOMENTS.length]!),
    ),
  )
  await expect.poll(connections, { timeout: 60_000 }).toBe(0)
  await expect.poll(() => openFiles().filter((file) => !before.includes(file)), { timeout: 60_000 }).toEqual([])
  await expect.poll(() => openFiles().length, { timeout: 60_000 }).toBeLessThanOrEqual(before.length)
})

/** What is open when two looks in a row agree. */
async function settled(): Promise<string[]> {
  let [before, now]: [string[], string[]] = [[], openFiles()]
  await expect
    .poll(() => {
      ;[before, now] = [now, openFiles()]
      return now.join() === before.join()
    })
    .toBe(true)
  return now
}

/** Sockets of all services. */
function sockets(): number {
  return [...new Set(SERVICES.map((service) => strata.pid(service)))].flatMap((pid) =>
    readdirSync(`/proc/${pid}/fd`).filter((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith('socket:')
      } catch {
        return false
      }
    }),
  ).length
}

it('clients that leave a stop: it is carried out, and no connection stays while it lasts', async () => {
  const run = async (): Promise<string> =>
    (
      await strata.request('POST', '/v1/containers', {
        image: 'leave:1',
        command: ['sh', '-c', 'trap "echo told" TERM; echo ready; while :; do sleep 0.1; done'],
      })
    ).json<{ id: string }>().id
  const says = (id: string, word: string): Promise<void> =>
    until(
      async () => (await strata.request('GET', `/v1/containers/${id}/logs`)).bytes.includes(word),
      `it says ${word}`,
    )
  const [lasting, ending] = await Promise.all([run(), run()])
  await Promise.all([says(lasting, 'ready'), says(ending, 'ready')])
  const before = sockets()
  await Promise.all(
    Array.from({ length: 60 }, (_, at) =>
      leave(
        post(`/v1/containers/${lasting}/stop`, { timeout: -1 }),
        LEAVES[at % LEAVES.length]!,
        MOMENTS[at % MOMENTS.length]!,
      ),
    ),
  )
  const client = await RawClient.connect(gateway)
  await client.send(post(`/v1/containers/${ending}/stop`, { timeout: 3 }))
  await says(ending, 'told')
  client.socket.destroy()
  // Both the gateway and the node had one for each.
  await expect.poll(sockets, { timeout: 60_000 }).toBeLessThan(before + 30)
  await expect
    .poll(
      async () => (await strata.request('GET', `/v1/containers/${ending}`)).json<{ exitCode?: number }>().exitCode,
      { timeout: 60_000 },
    )
    .toBe(137)
  expect((await strata.request('GET', `/v1/containers/${lasting}`)).json<{ state: string }>().state).toBe('running')
  await strata.request('DELETE', `/v1/containers/${lasting}?force=true`)
})

/** More than what fits into the sockets on the way: a stream that nobody reads stands still. */
const NOISY = ['sh', '-c', 'sleep 1; yes 0123456789 | head -c 5000000']

it('containers with --rm go when whoever attached to them has left, and their names are free', async () => {
  const names = Array.from({ length: 12 }, (_, at) => `leave-${at}`)
  await Promise.all(
    names.map(async (name, at) => {
      const { id } = (
        await strata.request('POST', '/v1/containers', {
          image: 'leave:1',
          name,
          command: NOISY,
          autoRemove: true,
          attach: true,
        })
      ).json<{ id: string }>()
      const texts = [get(`/v1/containers/${id}/logs?attach=true`), post(`/v1/containers/${id}/wait`, {})]
      await Promise.all([...texts, ...texts, ...texts].map((text) => leave(text, LEAVES[at % LEAVES.length]!, at % 3)))
    }),
  )
  await expect
    .poll(async () => (await strata.containers()).filter(({ name }) => names.includes(name)), { timeout: 60_000 })
    .toEqual([])
})

it('logs are rotated when whoever attached has left', async () => {
  const { id } = (
    await strata.request('POST', '/v1/containers', {
      image: 'leave:1',
      command: [
        'sh',
        '-c',
        'for i in $(seq 60); do sleep 1; yes 0123456789012345678901234567890123456789 | head -c 11000000; done; sleep 1000',
      ],
      attach: true,
    })
  ).json<{ id: string }>()
  await Promise.all(
    Array.from({ length: 20 }, (_, at) =>
      leave(get(`/v1/containers/${id}/logs?attach=true`), LEAVES[at % LEAVES.length]!, at % 4),
    ),
  )
  const folder = join(strata.node.folder, 'containers', id, 'log')
  // A generation has 10 MiB, and more where the writer is quicker than the service: so it pauses
  // behind each. The newest and what a reader may need are kept.
  await until(
    () =>
      Math.max(
        ...readdirSync(folder)
          .filter((name) => /^\d+$/.test(name))
          .map(Number),
        0,
      ) >= 4,
    'all is written',
    200,
  )
  await expect
    .poll(() => readdirSync(folder).filter((name) => /^\d+$/.test(name)).length, { timeout: 60_000 })
    .toBeLessThanOrEqual(3)
  await strata.request('DELETE', `/v1/containers/${id}?force=true`)
}, 300_000)
