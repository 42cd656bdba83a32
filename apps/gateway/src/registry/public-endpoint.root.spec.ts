import { execFile, spawnSync } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { NestFastifyApplication } from '@nestjs/platform-fastify'
import { Repositories } from '@strata/images'
import { digestOf, MEDIA, parseTagged, type Digest } from '@strata/oci'
import { bodyLimits, closeListener, createHttpApp, Metrics, openListener } from '@strata/platform'
import { TestRedis } from '@strata/queue/testing'
import { BlobStore, freshDataKey, Leases, openStore, type ObjectStore } from '@strata/store'
import { TestS3, whyNoTestS3 } from '@strata/store/testing'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { apis, TREES } from '../apis.js'
import { gatewayAuthentication } from '../authentication.js'
import { gatewayConfigSchema } from '../config.js'

/*
 * Pulls from an S3 server that clients reach by another name than the gateway.
 */

const TOKEN = 't'.repeat(64)
const LEASE = randomUUID()
let folder: string
let s3: TestS3
let redis: TestRedis
let app: NestFastifyApplication
let server: Server
let store: ObjectStore
let host: string
let publicEndpoint: string
let logged: string

const LAYER = randomBytes(100_000)
const CONFIG = Buffer.from(
  JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [digestOf(LAYER)] } }),
)
const PIECES = randomBytes(50_000)
const partOf = (bytes: Buffer, mediaType: string) => ({ mediaType, digest: digestOf(bytes), size: bytes.length })

beforeAll(async () => {
  const why = whyNoTestS3('minio')
  if (why !== undefined) throw new Error(why)
  folder = mkdtempSync(join(tmpdir(), 'strata-public-'))
  writeFileSync(join(folder, 'secret'), TOKEN, { mode: 0o600 })
  s3 = await TestS3.startOwn('minio')
  redis = await TestRedis.start()
  publicEndpoint = s3.endpoint.replace('127.0.0.1', 'localhost')
  const config = gatewayConfigSchema.parse({
    ...s3.environment(),
    STRATA_S3_PUBLIC_ENDPOINT: publicEndpoint,
    STRATA_S3_PUBLIC_SECONDS: '77',
    STRATA_REDIS: redis.url,
    STRATA_LISTEN: '127.0.0.1:0',
    STRATA_TOKEN_FILE: join(folder, 'secret'),
    STRATA_NODE_SECRET_FILE: join(folder, 'secret'),
    STRATA_LOG_LEVEL: 'trace',
  })
  logged = ''
  vi.spyOn(process.stderr, 'write').mockImplementation((line) => {
    logged += String(line)
    return true
  })
  store = await openStore(config, () => undefined)
  const metrics = (await Metrics.open()).of('gateway')
  const made = await createHttpApp(apis(config, metrics), {
    authentication: gatewayAuthentication(config),
    bodies: bodyLimits(config),
    trees: TREES,
    metrics,
  })
  app = made.app
  server = await openListener({ kind: 'tcp', host: '127.0.0.1', port: 0 }, made.handler, {
    connections: 100,
    headersMs: 10_000,
    unreadMs: 60_000,
  })
  host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  const run = await new Leases(store).create(LEASE, { job: { kind: 'push', id: LEASE }, request: {} })
  const blobs = new BlobStore(store)
  const repositories = new Repositories(store)
  for (const bytes of [LAYER, CONFIG]) await blobs.add(digestOf(bytes), bytes, LEASE)
  const pieces = [PIECES.subarray(0, 20_000), PIECES.subarray(20_000)]
  const keys = pieces.map(() => freshDataKey(LEASE))
  for (const [at, key] of keys.entries()) await store.put(key, pieces[at]!)
  await blobs.commit(
    digestOf(PIECES),
    { pieces: keys.map((data, at) => ({ data, size: pieces[at]!.length })), size: PIECES.length },
    LEASE,
  )
  const { repository, tag } = parseTagged('pull/app:1')
  await repositories.blobs.add(
    repository,
    [LAYER, CONFIG, PIECES].map((bytes) => digestOf(bytes)),
    LEASE,
  )
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      config: partOf(CONFIG, MEDIA.config),
      layers: [partOf(LAYER, MEDIA.layer)],
    }),
  )
  await repositories.tags.put(
    repository,
    tag!,
    { digest: digestOf(manifest), bytes: manifest, mediaType: MEDIA.manifest },
    run,
  )
})
afterAll(async () => {
  vi.restoreAllMocks()
  await closeListener(server, 0)
  await app.close()
  await store.close()
  await redis.remove()
  await s3.remove()
  rmSync(folder, { recursive: true })
})

const authorization = `Basic ${Buffer.from(`any:${TOKEN}`).toString('base64')}`
const ask = (digest: Digest, init: { method?: string; headers?: Record<string, string> } = {}): Promise<Response> =>
  fetch(`http://${host}/v2/pull/app/blobs/${digest}`, {
    ...init,
    redirect: 'manual',
    headers: { authorization, ...init.headers },
  })

it('a pull of a blob is sent to the public endpoint, for a time, with an address that reads this blob alone', async () => {
  const answer = await ask(digestOf(LAYER))
  expect([answer.status, await answer.text(), answer.headers.get('docker-content-digest')]).toEqual([
    307,
    '',
    digestOf(LAYER),
  ])
  const address = new URL(answer.headers.get('location')!)
  expect([address.origin, address.searchParams.get('X-Amz-Expires')]).toEqual([publicEndpoint, '77'])
  expect([...answer.headers].join()).not.toContain(s3.endpoint)
  expect(Buffer.from(await (await fetch(address)).arrayBuffer()).equals(LAYER)).toBe(true)
  const part = await fetch(address, { headers: { range: 'bytes=10-19' } })
  expect([part.status, Buffer.from(await part.arrayBuffer())]).toEqual([206, LAYER.subarray(10, 20)])
  expect((await fetch(address, { method: 'PUT', body: 'x' })).status).toBe(403)
  const other = new URL(address)
  const { data } = (await new BlobStore(store).stat(digestOf(CONFIG))) as { data: string }
  other.pathname = `/${s3.bucket}/${data}`
  expect((await fetch(other)).status).toBe(403)
})

it('a client whose token would follow is not sent to the public endpoint', async () => {
  const get = async (headers: Record<string, string>) => {
    const { port } = server.address() as AddressInfo
    const path = `/v2/pull/app/blobs/${digestOf(LAYER)}`
    const [answer] = (await once(request({ port, path, headers }).end(), 'response')) as [IncomingMessage]
    return [answer.statusCode, Buffer.concat((await answer.toArray()) as Buffer[]).equals(LAYER)]
  }
  for (const name of ['localhost', 'LOCALHOST:5000'])
    expect(await get({ host: name, authorization })).toEqual([200, true])
  expect(await get({ host: 'registry.test', authorization })).toEqual([307, false])
  expect(logged.match(/would send its token on/g)).toHaveLength(1)
})

it('what needs no bytes is answered here, and so is a blob in pieces', async () => {
  const head = await ask(digestOf(LAYER), { method: 'HEAD' })
  expect([head.status, head.headers.get('content-length'), head.headers.get('location')]).toEqual([
    200,
    String(LAYER.length),
    null,
  ])
  const known = await ask(digestOf(LAYER), { headers: { 'if-none-match': `"${digestOf(LAYER)}"` } })
  expect([known.status, known.headers.get('location')]).toEqual([304, null])
  expect((await ask(digestOf('none'))).status).toBe(404)
  const inPieces = await ask(digestOf(PIECES))
  expect([inPieces.status, Buffer.from(await inPieces.arrayBuffer()).equals(PIECES)]).toEqual([200, true])
  const part = await ask(digestOf(PIECES), { headers: { range: 'bytes=19990-20009' } })
  expect([part.status, Buffer.from(await part.arrayBuffer())]).toEqual([206, PIECES.subarray(19_990, 20_010)])
})

it('skopeo follows', async (context) => {
  if (spawnSync('skopeo', ['--version']).status !== 0) context.skip('it needs skopeo')
  const copy = join(folder, 'copy')
  const before = logged.length
  await promisify(execFile)(
    'skopeo',
    [
      ...['--insecure-policy', 'copy', '-q', '--src-tls-verify=false', '--src-creds', `any:${TOKEN}`],
      ...[`docker://${host}/pull/app:1`, `dir:${copy}`],
    ],
    { env: { ...process.env, TMPDIR: folder } },
  )
  for (const bytes of [LAYER, CONFIG])
    expect(readFileSync(join(copy, digestOf(bytes).replace('sha256:', ''))).equals(bytes)).toBe(true)
  expect(logged.slice(before)).toContain(`/v2/pull/app/blobs/${digestOf(LAYER)}`)
})

it('no address is in the log', () => {
  expect(logged).toContain('"status":307')
  expect(logged).not.toMatch(/X-Amz|Signature/i)
})
