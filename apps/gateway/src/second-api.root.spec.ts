import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { NestFastifyApplication } from '@nestjs/platform-fastify'
import type { ErrorCode } from '@strata/base'
import { Images } from '@strata/images'
import { digestOf, MEDIA, parseTagged } from '@strata/oci'
import { closeListener, createHttpApp, openListener, secretInHeader } from '@strata/platform'
import { TestRedis } from '@strata/queue/testing'
import { BlobStore, openStore, Leases } from '@strata/store'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { gatewayConfigSchema } from './config.js'
import { GatewayModule } from './gateway.module.js'
import { BothApis, RegistryController, registryErrors } from './testing/registry-api.js'

/*
 * Another API beside `/v1`, over the same services: a little of the OCI distribution specification,
 * with its error form and its names with slashes. It is made of a module, a controller and an error
 * form; nothing of the gateway is changed for it.
 */

const TOKEN = 'the-token-of-this-test'
let folder: string
let redis: TestRedis
let app: NestFastifyApplication
let server: Server
let url: string
let digest: string
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strata-second-api-'))
  writeFileSync(join(folder, 'secret'), 'x'.repeat(64), { mode: 0o600 })
  redis = await TestRedis.start()
  const config = gatewayConfigSchema.parse({
    STRATA_STORE: join(folder, 'store'),
    STRATA_REDIS: redis.url,
    STRATA_LISTEN: '127.0.0.1:0',
    STRATA_TOKEN_FILE: join(folder, 'secret'),
    STRATA_NODE_SECRET_FILE: join(folder, 'secret'),
    STRATA_LOG_LEVEL: 'silent',
  })
  digest = await putImage(config)
  const made = await createHttpApp(
    {
      module: BothApis,
      imports: [GatewayModule.register(config)],
      controllers: [RegistryController],
    },
    {
      authentication: {
        unix: () => false,
        tcp: secretInHeader('authorization', `Bearer ${TOKEN}`),
        refusal: 'send the token',
      },
      bodies: { bytes: 4 * 1024 * 1024, memory: 64 * 1024 * 1024, timeoutMs: 10_000 },
      errorTrees: [{ prefix: '/v2', form: registryErrors }],
    },
  )
  app = made.app
  server = await openListener({ kind: 'tcp', host: '127.0.0.1', port: 0 }, made.handler, {
    connections: 100,
    headersMs: 10_000,
    unreadMs: 60_000,
  })
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(async () => {
  await closeListener(server, 0)
  await app.close()
  await redis.remove()
  rmSync(folder, { recursive: true })
})

/** `team/app/web:1`, of no layers. */
async function putImage(config: Parameters<typeof openStore>[0]): Promise<string> {
  const store = await openStore(config, () => undefined)
  const run = await new Leases(store).create('u', { job: { kind: 'load', id: 'u' }, request: {} })
  const imageConfig = Buffer.from(
    JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] }, config: {} }),
  )
  await new BlobStore(store).add(digestOf(imageConfig), imageConfig, 'u')
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      config: { mediaType: MEDIA.config, digest: digestOf(imageConfig), size: imageConfig.length },
      layers: [],
    }),
  )
  const image = await new Images(store).put(manifest, [parseTagged('team/app/web:1')], run)
  await store.close()
  return image.digest
}

interface Init {
  readonly method?: string
  readonly body?: string
  readonly headers?: Readonly<Record<string, string>>
}
const ask = (path: string, init: Init = {}): Promise<Response> =>
  fetch(`${url}${path}`, { ...init, headers: { authorization: `Bearer ${TOKEN}`, ...init.headers } })

it('a name with slashes is found, by tag and by digest, over the services of /v1', async () => {
  for (const reference of ['1', digest]) {
    const answer = await ask(`/v2/team/app/web/manifests/${reference}`)
    expect(answer.status, await answer.clone().text()).toBe(200)
    expect(answer.headers.get('docker-content-digest')).toBe(digest)
    expect(answer.headers.get('content-type')).toContain(MEDIA.manifest)
    expect(digestOf(Buffer.from(await answer.arrayBuffer()))).toBe(digest)
  }
  const listed = (await (await ask('/v1/images')).json()) as { images: { digest: string }[] }
  expect(listed.images.map((image) => image.digest)).toEqual([digest])
  expect((await ask('/v2')).headers.get('docker-distribution-api-version')).toBe('registry/2.0')
})

const json = { 'content-type': 'application/json' }
const CASES: [what: string, path: string, init: Init, status: number, v2: string, v1: ErrorCode][] = [
  ['what the service refuses', '/images/nothing:1', {}, 404, 'UNKNOWN', 'image_not_found'],
  ['a path that is not there', '/nowhere/at/all', {}, 404, 'UNKNOWN', 'not_found'],
  ['no token', '/', { headers: { authorization: 'Bearer x' } }, 401, 'UNAUTHORIZED', 'unauthorized'],
  [
    'no token, and a body',
    '/notes/1',
    { method: 'POST', body: '{}', headers: { 'content-type': 'application/json', authorization: 'Bearer x' } },
    401,
    'UNAUTHORIZED',
    'unauthorized',
  ],
]
it.each(CASES)('%s: each API answers in its own form', async (_, path, init, status, v2, v1) => {
  const registry = await ask(`/v2${path}`, init)
  expect(registry.status).toBe(status)
  expect(registry.headers.get('content-type')).toContain('application/json')
  expect(await registry.json()).toEqual({
    errors: [{ code: v2, message: expect.any(String) as string, detail: { code: expect.any(String) as string } }],
  })
  if (status === 401) expect(registry.headers.get('www-authenticate')).toBe('Basic realm="strata"')
  const problem = await ask(`/v1${path}`, init)
  expect(problem.status).toBe(status)
  expect(problem.headers.get('content-type')).toContain('application/problem+json')
  expect(problem.headers.get('www-authenticate')).toBeNull()
  expect(await problem.json()).toMatchObject({ status, code: v1 })
})

it('an image that is not there, a body that is not JSON, and one that does not fit: in the form of the registry', async () => {
  const post = { method: 'POST', headers: json }
  for (const [path, init, code] of [
    ['/v2/team/app/web/manifests/2', {}, 'MANIFEST_UNKNOWN'],
    ['/v2/notes/1', { ...post, body: '{' }, 'UNKNOWN'],
    ['/v2/notes/1', { ...post, body: '{"note":1}' }, 'UNKNOWN'],
    ['/v2/notes/1', { ...post, body: JSON.stringify({ note: 'x'.repeat(100_000) }) }, 'SIZE_INVALID'],
    ['/v2/%ff', {}, 'UNKNOWN'],
  ] as const) {
    const answer = await ask(path, init)
    expect(answer.status).toBeGreaterThanOrEqual(400)
    expect(await answer.json(), path).toMatchObject({ errors: [{ code }] })
  }
  // A path that only begins alike belongs to nobody's tree.
  expect(await (await ask('/v22')).json()).toMatchObject({ code: 'not_found' })
})
