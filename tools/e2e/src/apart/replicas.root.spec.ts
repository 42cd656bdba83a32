import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import type { ContainerView, JobView, NodeList } from '@strata/api'
import { TarReader } from '@strata/archive'
import { busyboxTree, header, makeLayer, type Tree } from '@strata/archive/testing'
import { IndexBuilder } from '@strata/layers'
import { digestOf, hexOf, type DiffId } from '@strata/oci'
import { keys } from '@strata/store'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadBusybox } from '../testing/busybox-image.js'
import { packedImage } from '../testing/packed-image.js'
import { StrataUnderTest, until, type Service } from '../testing/strata.js'

const NODE: readonly Service[] = ['extractor', 'runtime']
let strata: StrataUnderTest
/** The sockets of two gateways. */
let gateways: readonly [string, string]
let redis: Redis
let second: string
const secondNode = (): Record<string, string> => ({
  STRATA_NODE: second,
  STRATA_NODE_FOLDER: join(strata.folder, 'node-b'),
  STRATA_RUN_FOLDER: `/run/strata/${second}`,
})
const startSecondNode = (): Promise<void> => strata.startGroup(NODE, false, { name: 'b', environment: secondNode() })
/** Those that take work: a node is named by /v1/info as soon as its runtime lives. */
const nodes = async (): Promise<string[]> =>
  (await strata.request('GET', '/v1/nodes'))
    .json<NodeList>()
    .nodes.filter(({ state }) => state === 'ready')
    .map(({ id }) => id)

beforeAll(async () => {
  strata = await StrataUnderTest.start({
    topology: 'processes',
    groups: [['gateway', 'ingest', 'storage'], NODE],
    environment: { STRATA_PREPARE: 'false' },
  })
  second = `${strata.node.id}-b`
  gateways = [strata.socket, join(strata.folder, 'b.sock')]
  redis = new Redis({ path: strata.redisSocket })
  await strata.startGroup(['gateway', 'ingest'], false, { name: 'again', environment: { STRATA_SOCKET: gateways[1] } })
  await startSecondNode()
  await until(async () => (await nodes()).length === 2, 'two nodes')
  await until(
    async () => (await strata.health('gateway', 'ready', 'again').catch(() => undefined))?.status === 200,
    'two gateways',
  )
})
afterAll(async () => {
  redis.disconnect()
  await strata.dispose()
})

const at = (socket: string) => ({
  get: async <T>(path: string): Promise<T> => (await strata.request('GET', path, undefined, { socket })).json<T>(),
  post: (path: string, body?: unknown) => strata.request('POST', path, body ?? {}, { socket }),
})

describe('a job is seen through either gateway', () => {
  const events = async (socket: string, id: string): Promise<string[]> => {
    const text = (await buffer(await strata.open('GET', `/v1/jobs/${id}/events`, undefined, { socket }))).toString()
    return [...text.matchAll(/^event: (\w+)\ndata: (.*)$/gm)].map(([, , data]) => (JSON.parse(data!) as JobView).state)
  }
  const slowLoad = (id: string, socket: string) => {
    const body = new PassThrough()
    body.on('error', () => undefined)
    body.write(header({ name: 'big', size: 50_000_000 }))
    return {
      body,
      answer: strata.request('POST', `/v1/images?job=${id}`, body, { socket }).catch((error: unknown) => error),
    }
  }

  it.each([
    [0, 1],
    [1, 0],
  ] as const)('while it comes by gateway %i, and is taken back by the other', async (mine, other) => {
    const id = randomUUID()
    const { body, answer } = slowLoad(id, gateways[mine])
    const { get } = at(gateways[other])
    await until(async () => {
      body.write(Buffer.alloc(100_000))
      return (await get<JobView>(`/v1/jobs/${id}`)).bytes > 500_000
    }, 'bytes are counted')
    const seen = events(gateways[other], id)
    expect((await get<{ jobs: JobView[] }>('/v1/jobs')).jobs[0]).toMatchObject({ id, state: 'receiving' })
    expect((await strata.request('DELETE', `/v1/jobs/${id}`, undefined, { socket: gateways[other] })).status).toBe(202)
    expect(await answer).toMatchObject({ status: 409 })
    expect((await seen).at(-1)).toBe('cancelled')
    expect((await get<JobView>(`/v1/jobs/${id}`)).state).toBe('cancelled')
  })

  it('with its images, and loads at once are shared', async () => {
    const made = await Promise.all(
      Array.from({ length: 8 }, async (_, n) => {
        const archive = await packedImage(`t/many:${n}`, [
          await makeLayer(new Map([[`file-${n}`, { content: `${n}` }]])),
        ])
        const answer = await strata.request('POST', `/v1/images`, Readable.from([archive]), {
          socket: gateways[n % 2]!,
        })
        expect(answer.status, answer.bytes.toString()).toBe(201)
        return String(answer.headers.location)
      }),
    )
    for (const [n, job] of made.entries())
      expect(await at(gateways[(n + 1) % 2]!).get<JobView>(job)).toMatchObject({ state: 'completed' })
    const lists = await Promise.all(gateways.map((socket) => at(socket).get<{ images: unknown[] }>('/v1/images')))
    expect(lists[0]).toEqual(lists[1])
    expect(lists[0]!.images).toHaveLength(8)
  })
})

describe('containers on two nodes', () => {
  it('are reached through either gateway, by the doors of their nodes', async () => {
    await loadBusybox(strata, 't/box')
    const made: ContainerView[] = []
    await until(async () => {
      const answers = await Promise.all(
        Array.from({ length: 6 }, (_, n) =>
          at(gateways[n % 2]!).post('/v1/containers', {
            image: 't/box',
            command: ['sh', '-c', 'trap "exit 4" TERM; echo here; while :; do usleep 10000; done'],
          }),
        ),
      )
      for (const answer of answers) expect(answer.status, answer.bytes.toString()).toBe(201)
      made.push(...answers.map((answer) => answer.json<ContainerView>()))
      return new Set(made.map(({ node }) => node)).size === 2
    }, 'containers on both')
    for (const [n, { id }] of made.entries()) {
      const [one, other] = n % 2 === 0 ? gateways : [gateways[1], gateways[0]]
      await until(
        async () =>
          (
            await strata.request('GET', `/v1/containers/${id}/logs?stream=stdout`, undefined, { socket: one })
          ).bytes.toString() === 'here\n',
        'its first word',
      )
      const waiting = at(one).post(`/v1/containers/${id}/wait`)
      expect((await at(other).post(`/v1/containers/${id}/stop`)).status).toBe(204)
      expect((await waiting).json()).toEqual({ exitCode: 4 })
      expect((await strata.request('DELETE', `/v1/containers/${id}`, undefined, { socket: other })).status).toBe(204)
      expect(
        (await at(one).get<{ containers: ContainerView[] }>('/v1/containers?all')).containers.map(
          (container) => container.id,
        ),
      ).not.toContain(id)
    }
  })

  it('a door is TCP, and for those who have the secret', async () => {
    const doors = await Promise.all(
      [strata.node.id, second].map(
        async (id) => (JSON.parse((await redis.get(`strata:node:${id}`)) ?? '') as { door: string }).door,
      ),
    )
    expect(new Set(doors).size).toBe(2)
    const secret = readFileSync(join(strata.data, 'node-secret'), 'utf8').trim()
    for (const door of doors) {
      expect(door).toMatch(/^http:\/\/127\.0\.0\.1:[1-9]\d*$/)
      for (const path of ['/containers', '/containers/x/logs', '/mounts', '/nothing']) {
        for (const headers of [
          {},
          { 'x-strata-secret': '' },
          { 'x-strata-secret': `${secret}x` },
          { 'x-strata-secret': secret.slice(1) },
          { authorization: `Bearer ${secret}` },
        ] as Record<string, string>[]) {
          const { status, body } = await ask(`${door}${path}`, headers)
          expect({ path, headers, status, code: body.code }).toEqual({
            path,
            headers,
            status: 401,
            code: 'unauthorized',
          })
        }
      }
      expect((await ask(`${door}/containers`, { 'x-strata-secret': secret })).status).toBe(200)
    }
  })

  it('gateways and nodes share no folder', () => {
    const environment = (service: Service): string => readFileSync(`/proc/${strata.pid(service)}/environ`, 'utf8')
    for (const { folder, run } of strata.nodes)
      for (const place of [folder, run]) expect(environment('gateway')).not.toContain(place)
    expect(environment('runtime')).not.toContain(join(strata.folder, 'gateway'))
    expect(environment('gateway')).toContain('STRATA_STORE=s3://')
  })
})

describe('the index of a layer', () => {
  it('that one node has made is not made again by the other', async () => {
    await strata.stop('SIGTERM', 'b')
    const tree: Tree = new Map([...busyboxTree(), ['mark', { content: 'of the layer', mode: 0o644 }] as const])
    const marked: Tree = new Map([...busyboxTree(), ['mark', { content: 'of the layer', mode: 0o604 }] as const])
    const tar = await makeLayer(tree)
    await strata.load(Readable.from([await packedImage('t/marked', [gzipSync(tar)], [tar])]))
    // An index that is told from any that could be made of the layer.
    const key = keys.index(digestOf(tar) as DiffId)
    const store = await strata.store()
    const made = await store.read(key, 1024 * 1024)
    const mark = indexOf(await makeLayer(marked))
    expect(made?.bytes.equals(indexOf(tar))).toBe(true)
    expect(mark.equals(made!.bytes)).toBe(false)
    const etag = await store.replace(key, mark, made!.etag)
    expect(etag).toBeDefined()

    await startSecondNode()
    await until(async () => (await nodes()).length === 2, 'two nodes')
    await strata.stop('SIGTERM', NODE.join(','))
    await until(async () => (await nodes()).length === 1, 'the second alone')
    const container = (
      await at(gateways[1]).post('/v1/containers', { image: 't/marked', command: ['cat', '/mark'] })
    ).json<ContainerView>()
    expect(container.node).toBe(second)
    expect((await at(gateways[0]).post(`/v1/containers/${container.id}/wait`)).json()).toEqual({ exitCode: 0 })
    expect(readFileSync(join(strata.folder, 'node-b', 'layers', hexOf(digestOf(tar)), 'index')).equals(mark)).toBe(true)
    expect((await store.stat(key))?.etag).toBe(etag)
    await strata.startGroup(NODE)
    await until(async () => (await nodes()).length === 2, 'both again')
  })
})

function indexOf(tar: Buffer): Buffer {
  const builder = new IndexBuilder()
  const reader = new TarReader(builder)
  reader.write(tar)
  reader.end()
  return Buffer.from(builder.finish(tar.length).encode())
}

async function ask(url: string, headers: Record<string, string>): Promise<{ status: number; body: { code?: string } }> {
  const asked = request(url, { headers, agent: false }).end()
  const [answer] = (await once(asked, 'response')) as [import('node:http').IncomingMessage]
  return { status: answer.statusCode ?? 0, body: JSON.parse((await buffer(answer)).toString()) as { code?: string } }
}
