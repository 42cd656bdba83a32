import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { NestFastifyApplication } from '@nestjs/platform-fastify'
import { digestOf, hexOf, MEDIA, type DiffId, type Digest } from '@strata/oci'
import { bodyLimits, closeListener, createHttpApp, Metrics, openListener } from '@strata/platform'
import { QueueClient, QUEUES } from '@strata/queue'
import { TestRedis } from '@strata/queue/testing'
import { BlobStore, keys, openStore, type ObjectStore } from '@strata/store'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { apis, TREES } from '../apis.js'
import { gatewayAuthentication } from '../authentication.js'
import { gatewayConfigSchema } from '../config.js'

/** Two gateways on one store and one Redis, and no extractor: jobs stay in the queue. */
const TOKEN = 't'.repeat(64)
let folder: string
let redis: TestRedis
let store: ObjectStore
let queue: QueueClient
let on: Gateway
let off: Gateway
interface Gateway {
  readonly app: NestFastifyApplication
  readonly server: Server
  readonly url: string
}
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strata-pushed-'))
  writeFileSync(join(folder, 'secret'), TOKEN, { mode: 0o600 })
  redis = await TestRedis.start()
  queue = await QueueClient.forRequests(redis.url)
  store = await openStore({ STRATA_STORE: join(folder, 'store'), STRATA_S3_REGION: 'us-east-1' }, () => undefined)
  on = await gateway({})
  off = await gateway({ STRATA_INDEX_ON_PUSH: 'false' })
})
afterAll(async () => {
  for (const { app, server } of [on, off]) {
    await closeListener(server, 0)
    await app.close()
  }
  await queue.close()
  await store.close()
  await redis.remove()
  rmSync(folder, { recursive: true })
})

async function gateway(environment: Record<string, string>): Promise<Gateway> {
  const config = gatewayConfigSchema.parse({
    STRATA_STORE: join(folder, 'store'),
    STRATA_REDIS: redis.url,
    STRATA_LISTEN: '127.0.0.1:0',
    STRATA_TOKEN_FILE: join(folder, 'secret'),
    STRATA_NODE_SECRET_FILE: join(folder, 'secret'),
    STRATA_LOG_LEVEL: 'silent',
    ...environment,
  })
  const metrics = (await Metrics.open()).of('gateway')
  const { app, handler } = await createHttpApp(apis(config, metrics), {
    authentication: gatewayAuthentication(config),
    bodies: bodyLimits(config),
    trees: TREES,
  })
  const limits = { connections: 100, headersMs: 10_000, unreadMs: 60_000 }
  const server = await openListener({ kind: 'tcp', host: '127.0.0.1', port: 0 }, handler, limits)
  return { app, server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

interface Part {
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
}
const ask = (to: Gateway, method: string, path: string, body: Buffer<ArrayBuffer>, type = ''): Promise<Response> => {
  const authorization = `Bearer ${TOKEN}`
  return fetch(`${to.url}${path}`, { method, body, headers: { authorization, ...(type && { 'content-type': type }) } })
}
async function pushBlob(to: Gateway, name: string, content: string | object, mediaType: string): Promise<Part> {
  const bytes = Buffer.from(typeof content === 'string' ? content : JSON.stringify(content))
  const digest = digestOf(bytes)
  expect((await ask(to, 'POST', `/v2/${name}/blobs/uploads/?digest=${digest}`, bytes)).status).toBe(201)
  return { mediaType, digest, size: bytes.length }
}
async function pushManifest(to: Gateway, name: string, reference: string, content: object): Promise<void> {
  const manifest = { schemaVersion: 2, mediaType: MEDIA.manifest, ...content }
  const bytes = Buffer.from(JSON.stringify(manifest))
  const where = `/v2/${name}/manifests/${reference === 'by digest' ? digestOf(bytes) : reference}`
  expect((await ask(to, 'PUT', where, bytes, manifest.mediaType)).status).toBe(201)
}
/** An image of layers that are packed: what they unpack to is what the config says. */
async function pushImage(
  to: Gateway,
  name: string,
  texts: readonly string[],
  { reference = '1', types = texts.map((): string => MEDIA.layerGzip) } = {},
): Promise<Part[]> {
  const layers: Part[] = []
  for (const [at, text] of texts.entries()) layers.push(await pushBlob(to, name, text, types[at]!))
  const diff_ids = texts.map(diffIdOf)
  const config = await pushBlob(
    to,
    name,
    { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids } },
    MEDIA.config,
  )
  await pushManifest(to, name, reference, { config, layers })
  return layers
}
const diffIdOf = (text: string): DiffId => digestOf(`inside of ${text}`) as DiffId
const jobOf = ({ digest, size }: Part, text: string): string => `push-${hexOf(digest)}-${hexOf(diffIdOf(text))}-${size}`
const waiting = async () => queue.producer.queue(QUEUES.extract).getJobs(['prioritized', 'waiting', 'active'])
const idsOf = async (): Promise<string[]> => (await waiting()).map(({ id }) => id!).sort()
/** Gateways look at manifests one after another: what was pushed before this one was looked at. */
async function pushedUntilNow(to: Gateway, text: string): Promise<string> {
  const [layer] = await pushImage(to, 'mark/app', [text])
  const id = jobOf(layer!, text)
  await expect.poll(idsOf).toContain(id)
  return id
}
const drain = async (): Promise<void> => queue.producer.queue(QUEUES.extract).drain()

it('each layer of a pushed image gets one extract job, behind all others, whoever pushes it and how often', async () => {
  const layers = await pushImage(on, 'one/app', ['first', 'second'])
  const ids = layers.map((layer, at) => jobOf(layer, ['first', 'second'][at]!)).sort()
  await expect.poll(idsOf).toEqual(ids)
  for (const job of await waiting()) {
    expect(job.opts).toMatchObject({ priority: 1, removeOnComplete: true, removeOnFail: true })
    expect(job.data).toMatchObject({ layer: { diffId: expect.stringMatching(/^sha256:/) as string } })
  }
  await pushImage(on, 'two/app', ['first', 'second'], { reference: 'by digest' })
  await pushImage(on, 'one/app', ['first', 'second'], { reference: '2' })
  const mark = await pushedUntilNow(on, 'after repetitions')
  expect(await idsOf()).toEqual([...ids, mark].sort())
  await drain()
})

it('what is indexed, what is no layer and what is not here starts no job', async () => {
  const [indexed] = await pushImage(off, 'three/app', ['indexed'])
  await new BlobStore(store).prove(indexed!.digest, diffIdOf('indexed'))
  await store.create(keys.index(diffIdOf('indexed')), Buffer.from('an index'))
  await pushImage(on, 'three/app', ['indexed'])
  // Its bytes are known to be something else.
  await new BlobStore(store).prove((await pushBlob(on, 'three/app', 'lie', '')).digest, diffIdOf('truth'))
  await pushImage(on, 'three/app', ['lie'])
  // A signature in the form that has the config of an image, an attestation, a chart.
  for (const [at, type] of [
    'application/vnd.dev.cosign.simplesigning.v1+json',
    'application/vnd.in-toto+json',
  ].entries())
    await pushImage(on, 'three/app', [`payload ${at}`], { reference: 'by digest', types: [type] })
  const config = await pushBlob(on, 'three/chart', { name: 'chart' }, 'application/vnd.cncf.helm.config.v1+json')
  const chart = await pushBlob(on, 'three/chart', 'chart', 'application/vnd.cncf.helm.chart.content.v1.tar+gzip')
  await pushManifest(on, 'three/chart', '1', { config, layers: [chart] })
  await pushManifest(on, 'three/chart', 'index', { mediaType: MEDIA.index, manifests: [] })
  const mark = await pushedUntilNow(on, 'after all of that')
  expect(await idsOf()).toEqual([mark])
  await drain()
})

it('with STRATA_INDEX_ON_PUSH=false a push starts nothing', async () => {
  await pushImage(off, 'four/app', ['of nobody'])
  const marks = [await pushedUntilNow(on, 'mark 1'), await pushedUntilNow(on, 'mark 2')]
  expect(await idsOf()).toEqual(marks.sort())
  await drain()
})

it('a push does not fail while Redis is away, and pushes behind that are indexed', async () => {
  await redis.kill()
  await pushImage(on, 'five/app', ['without Redis'])
  await redis.start()
  // The gateway notices a moment later that it is back. Until then a layer gets no job.
  const pushed = new Set<string>()
  const pushOneMore = async () => {
    const content = `with Redis, ${pushed.size}`
    pushed.add(jobOf((await pushImage(on, 'five/app', [content]))[0]!, content))
    return (await idsOf()).filter((id) => pushed.has(id)).length
  }
  await expect.poll(pushOneMore, { interval: 100 }).toBeGreaterThan(0)
  await drain()
})
