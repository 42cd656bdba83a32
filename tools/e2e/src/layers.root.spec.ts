import { randomBytes, randomUUID } from 'node:crypto'
import { watch } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { makeLayer } from '@strata/archive/testing'
import { digestOf, hexOf, type Digest } from '@strata/oci'
import { busyboxLayer } from './testing/busybox-image.js'
import { damage } from './testing/store-state.js'
import { leftOnNode, StrataUnderTest, until, type Service } from './testing/strata.js'
import { asksAll } from './testing/topology.js'

const MEBIBYTE = 1024 * 1024
const SIBLINGS = 6
/** The first one is the largest, so that it is begun first: the tests damage it. */
const LARGEST_MIB = 80
const OTHERS_MIB = 64

const NODE: readonly Service[] = ['extractor', 'runtime']

interface GzipLayer {
  readonly diffId: Digest
  readonly blob: Digest
  readonly packed: Buffer
}

/**
 * Bytes that are not there and bytes that end early are told by the store, each in its way. Others
 * of the right number are found by who inflates them, whatever store they come from.
 */
const DAMAGES: readonly [string, (whole: Buffer) => Buffer | undefined, string, string][] = [
  ['gone', () => undefined, 'layer_missing', 'is not in the store'],
  ['cut', (whole: Buffer) => whole.subarray(0, whole.length >> 1), 'corrupt', 'damaged'],
  // Random bytes: of zeros a gzip stream may make very many before it is found to be damaged.
  [
    'cut, and as long as it was',
    (whole: Buffer) =>
      Buffer.concat([whole.subarray(0, whole.length >> 1), randomBytes(whole.length - (whole.length >> 1))]),
    'corrupt',
    'damaged',
  ],
]

let strata: StrataUnderTest
let layers: readonly GzipLayer[]
let redis: Redis
beforeAll(async () => {
  strata = await StrataUnderTest.start({ groups: [['gateway', 'ingest', 'storage'], NODE] })
  layers = [pack(await busyboxLayer())]
  // Slow enough to be seen at work: random bytes between stretches of zeros, within the limit on
  // the ratio.
  for (let n = 0; n < SIBLINGS; n++) {
    const piece = Buffer.concat([randomBytes(64 * 1024)], MEBIBYTE)
    layers = [
      ...layers,
      pack(
        await makeLayer(
          new Map([
            [
              `big-${n}`,
              { content: Buffer.concat(Array.from({ length: n === 0 ? LARGEST_MIB : OTHERS_MIB }, () => piece)) },
            ],
          ]),
        ),
      ),
    ]
  }
  await strata.load(Readable.from([await gzipArchive('t/gzip', layers)]))
  redis = new Redis({ path: strata.redisSocket })
})
afterAll(async () => {
  redis.disconnect()
  await strata.dispose()
})
/** A node that has nothing of its own any more, as after a lost disk. */
beforeEach(async () => {
  await strata.stop('SIGTERM', NODE.join())
  for (const lost of ['layers', 'snapshots']) await rm(join(strata.node.folder, lost), { recursive: true })
  await strata.startGroup(NODE)
  await strata.ready()
})

const launch = () =>
  strata.request('POST', '/v1/containers', { image: 't/gzip', command: ['sh', '-c', 'ls /big-* | wc -l'] })
const removeAll = async (): Promise<void> => {
  for (const { id } of await strata.containers()) await strata.request('DELETE', `/v1/containers/${id}`)
  expect(leftOnNode(strata.node)).toEqual([])
}
const made = async (): Promise<string[]> =>
  (await readdir(join(strata.node.folder, 'layers'))).filter((name) => /^[0-9a-f]{64}$/.test(name))

describe('a node that lost its layers', () => {
  it('makes each of them once, for twenty launches at once', async () => {
    const appeared: string[] = []
    const watcher = watch(join(strata.node.folder, 'layers'), (event, name) => {
      if (event === 'rename' && name !== null && /^[0-9a-f]{64}$/.test(name)) appeared.push(name)
    })
    const answers = await Promise.all(Array.from({ length: 20 }, launch))
    for (const answer of answers) expect(answer.status, answer.bytes.toString()).toBe(201)
    for (const { id } of answers.map((answer) => answer.json<{ id: string }>())) {
      expect((await strata.request('POST', `/v1/containers/${id}/wait`)).json()).toEqual({ exitCode: 0 })
      expect((await strata.request('GET', `/v1/containers/${id}/logs?stream=stdout`)).bytes.toString()).toBe(
        `${SIBLINGS}\n`,
      )
    }
    watcher.close()
    expect(appeared.sort()).toEqual(layers.map(({ diffId }) => hexOf(diffId)).sort())
    const results = (await extractions()).filter(({ made }) => made)
    expect(results.map(({ diffId }) => diffId).sort()).toEqual(layers.map(({ diffId }) => diffId).sort())
    await removeAll()
  })
})

describe('a launch that is taken back while its layers are made', () => {
  it('stops that work, and leaves neither container nor name', async () => {
    const job = randomUUID()
    const launching = strata.request('POST', `/v1/containers?job=${job}`, {
      image: 't/gzip',
      name: 'hasty',
      command: ['true'],
    })
    await until(async () => (await redis.llen(`${queue()}:active`)) > 0, 'a layer is worked on')
    await strata.request('DELETE', `/v1/jobs/${job}`)
    expect((await launching).json()).toMatchObject({ code: 'cancelled' })
    await until(async () => (await redis.llen(`${queue()}:active`)) === 0, 'no layer is worked on')
    expect(await redis.llen(`${queue()}:wait`)).toBe(0)
    expect((await made()).length).toBeLessThan(layers.length - 2)
    expect(await strata.containers()).toEqual([])
    expect(leftOnNode(strata.node)).toEqual([])
    expect((await strata.cli(['run', '--rm', '--name', 'hasty', 't/gzip', 'true'])).code).toBe(0)
  })
})

describe('a layer that is damaged in the store', () => {
  it.each(asksAll() ? DAMAGES : DAMAGES.slice(0, 2))(
    '%s: the launch fails with the reason, and the other layers’ work stops',
    async (_, damaged, code, words) => {
      const { blob, packed } = layers[1]!
      await damage(strata, blob, damaged(packed))
      const answer = await launch()
      expect(answer.json()).toMatchObject({ code })
      expect(answer.json<{ detail: string }>().detail).toContain(words)
      expect(answer.json<{ detail: string }>().detail).toContain(blob)

      await until(async () => (await redis.llen(`${queue()}:active`)) === 0, 'no layer is worked on')
      expect(await redis.llen(`${queue()}:wait`)).toBe(0)
      expect(await made()).not.toContain(hexOf(layers[1]!.diffId))
      // Those that no worker had yet are never made. (Two are worked on at a time.)
      expect((await made()).length).toBeLessThan(layers.length - 2)
      expect(await strata.containers()).toMatchObject([{ state: 'exited', exitCode: 125 }])
      expect((await strata.containers())[0]?.reason).toContain(words)
      await removeAll()

      // As it was, for the next test.
      await damage(strata, blob, packed)
      expect((await launch()).status).toBe(201)
      await until(async () => (await strata.containers()).every(({ state }) => state === 'exited'), 'it has run')
      await removeAll()
    },
  )
})

const queue = (): string => `strata-q:extract.${strata.node.id}`

/** What the node's `extract` jobs since the last start answered. */
async function extractions(): Promise<{ diffId: string; made: boolean }[]> {
  const ids = await redis.zrange(`${queue()}:completed`, '0', '-1')
  return Promise.all(
    ids.map(async (id) => {
      const { data, returnvalue } = await redis.hgetall(`${queue()}:${id}`)
      const { layer } = JSON.parse(data ?? '') as { layer: { diffId: string } }
      return { diffId: layer.diffId, made: (JSON.parse(returnvalue ?? '') as { made: boolean }).made }
    }),
  )
}

function pack(tar: Buffer): GzipLayer {
  const packed = gzipSync(tar, { level: 1 })
  return { diffId: digestOf(tar), blob: digestOf(packed), packed }
}

/** As `docker save`, but with layers as they came from a registry. */
function gzipArchive(name: string, layers: readonly GzipLayer[]): Promise<Buffer> {
  const config = JSON.stringify({
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Env: ['PATH=/bin'] },
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
  })
  const Config = `${hexOf(digestOf(config))}.json`
  const manifest = [{ Config, RepoTags: [name], Layers: layers.map(({ blob }) => `${hexOf(blob)}.tar.gz`) }]
  return makeLayer(
    new Map<string, { content: string | Buffer }>([
      ...layers.map(({ blob, packed }) => [`${hexOf(blob)}.tar.gz`, { content: packed }] as const),
      [Config, { content: config }],
      ['manifest.json', { content: JSON.stringify(manifest) }],
    ]),
  )
}
