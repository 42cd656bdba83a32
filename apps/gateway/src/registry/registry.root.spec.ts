import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { get, request, type ClientRequest, type IncomingMessage, type Server } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { NestFastifyApplication } from '@nestjs/platform-fastify'
import type { ErrorCode } from '@strata/base'
import { Images, Repositories } from '@strata/images'
import { digestOf, MEDIA, parseReference, parseTagged, type Digest } from '@strata/oci'
import { bodyLimits, closeListener, createHttpApp, Metrics, openListener } from '@strata/platform'
import { RawClient, requestText } from '@strata/platform/testing'
import { TestRedis } from '@strata/queue/testing'
import { BlobStore, Leases, openStore, type LeaseRun, type ObjectStore } from '@strata/store'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { apis, TREES } from '../apis.js'
import { gatewayAuthentication } from '../authentication.js'
import { gatewayConfigSchema } from '../config.js'

const TOKEN = 't'.repeat(64)
let folder: string
let redis: TestRedis
let app: NestFastifyApplication
let server: Server
/** On a unix socket, where the kernel holds less for a client. */
let unixServer: Server
let store: ObjectStore
let allMetrics: Metrics
let url: string
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strata-registry-'))
  writeFileSync(join(folder, 'secret'), TOKEN, { mode: 0o600 })
  redis = await TestRedis.start()
  const config = gatewayConfigSchema.parse({
    STRATA_STORE: join(folder, 'store'),
    STRATA_REDIS: redis.url,
    STRATA_LISTEN: '127.0.0.1:0',
    STRATA_TOKEN_FILE: join(folder, 'secret'),
    STRATA_NODE_SECRET_FILE: join(folder, 'secret'),
    STRATA_LOG_LEVEL: 'silent',
    STRATA_MAX_MANIFEST_BYTES: '100000',
    STRATA_MANIFEST_MEMORY: '5',
    STRATA_MAX_BLOB_BYTES: '1000000',
    STRATA_MAX_PUSHES: '2',
    STRATA_MAX_PUSH_UPLOADS: '100',
    STRATA_UPLOAD_IDLE_MS: '5000',
  })
  store = await openStore(config, () => undefined)
  allMetrics = await Metrics.open()
  const metrics = allMetrics.of('gateway')
  const made = await createHttpApp(apis(config, metrics), {
    authentication: gatewayAuthentication(config),
    bodies: bodyLimits(config),
    trees: TREES,
    metrics,
  })
  app = made.app
  const limits = { connections: 100, headersMs: 10_000, unreadMs: 60_000 }
  server = await openListener({ kind: 'tcp', host: '127.0.0.1', port: 0 }, made.handler, limits)
  unixServer = await openListener({ kind: 'unix', path: join(folder, 'socket'), mode: 0o600 }, made.handler, limits)
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(async () => {
  await closeListener(server, 0)
  await closeListener(unixServer, 0)
  await app.close()
  await store.close()
  await redis.remove()
  rmSync(folder, { recursive: true })
})

interface Init {
  readonly method?: string
  readonly body?: string | Uint8Array<ArrayBuffer>
  readonly headers?: Readonly<Record<string, string>>
}
const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
const ask = (path: string, init: Init = {}): Promise<Response> =>
  fetch(`${url}${path}`, { ...init, headers: { authorization: basic('any', TOKEN), ...init.headers } })
/** Without `fetch`, which resolves `..` before it sends a path. */
const askAsIs = async (path: string): Promise<Response> => {
  const [answer] = (await once(
    get({ ...urlParts(), path, headers: { authorization: basic('any', TOKEN) } }),
    'response',
  )) as [IncomingMessage]
  return new Response(await text(answer), {
    status: answer.statusCode!,
    headers: answer.headers as Record<string, string>,
  })
}
/** With headers that `fetch` does not send for its caller. */
const askOfPage = async (path: string, headers: Record<string, string>): Promise<{ status: number }> => {
  const authorization = basic('any', TOKEN)
  const [answer] = (await once(get({ ...urlParts(), path, headers: { authorization, ...headers } }), 'response')) as [
    IncomingMessage,
  ]
  answer.resume()
  return { status: answer.statusCode! }
}
const urlParts = () => ({ host: '127.0.0.1', port: new URL(url).port, agent: false })
const errorOf = async (answer: Response): Promise<string> => {
  expect(answer.headers.get('content-type')).toContain('application/json')
  const { errors } = (await answer.json()) as { errors: { code: string; message: string }[] }
  expect(errors).toHaveLength(1)
  expect(errors[0]!.message).not.toBe('')
  return `${answer.status} ${errors[0]!.code}`
}

const part = (content: object | string, mediaType: string) => {
  const bytes = Buffer.from(typeof content === 'string' ? content : JSON.stringify(content))
  return { bytes, descriptor: { mediaType, digest: digestOf(bytes), size: bytes.length } }
}
const LAYER = part('the bytes of a layer', MEDIA.layer)
const CONFIG = part(
  { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [LAYER.descriptor.digest] }, config: {} },
  MEDIA.config,
)
/** Spaces, and a member that nobody knows: bytes that no writer of ours would make. */
const MANIFEST = part(
  `{  "schemaVersion": 2, "mediaType": "${MEDIA.manifest}", "config": ${JSON.stringify(CONFIG.descriptor)}, "layers": [${JSON.stringify(LAYER.descriptor)}], "of": "the test" }`,
  MEDIA.manifest,
)

async function under<T>(work: (run: LeaseRun) => Promise<T>): Promise<T> {
  const leases = new Leases(store)
  const id = randomUUID()
  const run = await leases.create(id, { job: { kind: 'push', id }, request: {} })
  try {
    return await work(run)
  } finally {
    await leases.endBy(run, 'done')
  }
}

/** As `docker load` gives it its names. */
async function load(...names: string[]): Promise<void> {
  await under(async (run) => {
    const blobs = new BlobStore(store)
    for (const { bytes, descriptor } of [CONFIG, LAYER]) await blobs.add(descriptor.digest, bytes, run.lease)
    await new Images(store).put(MANIFEST.bytes, names.map(parseTagged), run)
  })
}

/** Artifacts of a subject, which need not be there. */
async function attach(name: string, subject: Digest, artifactType: string): Promise<Digest> {
  return under(async (run) => {
    const empty = part('{}', 'application/vnd.oci.empty.v1+json')
    const repositories = new Repositories(store)
    const { repository } = parseReference(name)
    await new BlobStore(store).add(empty.descriptor.digest, empty.bytes, run.lease)
    await repositories.blobs.add(repository, [empty.descriptor.digest], run.lease)
    const manifest = part(
      {
        schemaVersion: 2,
        mediaType: MEDIA.manifest,
        artifactType,
        config: empty.descriptor,
        layers: [empty.descriptor],
        subject: { mediaType: MEDIA.manifest, digest: subject, size: 10 },
        annotations: { of: artifactType },
      },
      MEDIA.manifest,
    )
    const { digest } = manifest.descriptor
    await repositories.manifests.put(repository, digest, manifest.bytes, MEDIA.manifest, run)
    return digest
  })
}

it('what was loaded is pulled: the manifest by tag and digest, and its blobs, byte for byte', async () => {
  await load('pull/app:1')
  const { digest } = MANIFEST.descriptor
  for (const reference of ['1', digest, digest.replace(':', '%3A')]) {
    const answer = await ask(`/v2/pull/app/manifests/${reference}`)
    expect(answer.status).toBe(200)
    expect(answer.headers.get('docker-content-digest')).toBe(digest)
    expect(answer.headers.get('content-type')).toBe(MEDIA.manifest)
    expect(Buffer.from(await answer.arrayBuffer()).equals(MANIFEST.bytes)).toBe(true)
  }
  for (const { bytes, descriptor } of [CONFIG, LAYER]) {
    const answer = await ask(`/v2/pull/app/blobs/${descriptor.digest}`)
    expect(answer.status).toBe(200)
    expect(answer.headers.get('docker-content-digest')).toBe(descriptor.digest)
    expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true)
  }
  const listed = (await (await ask('/v1/images', { headers: { authorization: `Bearer ${TOKEN}` } })).json()) as {
    images: { digest: string }[]
  }
  expect(listed.images.map((image) => image.digest)).toContain(digest)
})

it('HEAD says what GET says, and sends nothing', async () => {
  await load('pull/app:1')
  for (const path of [`manifests/1`, `manifests/${MANIFEST.descriptor.digest}`, `blobs/${LAYER.descriptor.digest}`]) {
    const [got, head] = [await ask(`/v2/pull/app/${path}`), await ask(`/v2/pull/app/${path}`, { method: 'HEAD' })]
    expect(head.status).toBe(200)
    for (const name of ['content-length', 'content-type', 'docker-content-digest', 'etag'])
      expect(head.headers.get(name), name).toBe(got.headers.get(name))
    expect(await head.text()).toBe('')
    expect(head.headers.get('content-length')).toBe(String((await got.arrayBuffer()).byteLength))
  }
  const none = await ask('/v2/pull/app/manifests/none', { method: 'HEAD' })
  expect([none.status, await none.text()]).toEqual([404, ''])
})

it('a part of a blob is sent, and nothing of what the client has', async () => {
  await load('pull/app:1')
  const path = `/v2/pull/app/blobs/${LAYER.descriptor.digest}`
  const { bytes } = LAYER
  const text = bytes.toString()
  const get = async (headers: Record<string, string>) => {
    const answer = await ask(path, { headers })
    return [answer.status, answer.headers.get('content-range'), await answer.text()]
  }
  expect(await get({ range: 'bytes=4-8' })).toEqual([206, `bytes 4-8/${bytes.length}`, text.slice(4, 9)])
  expect(await get({ range: 'bytes=-5' })).toEqual([
    206,
    `bytes ${bytes.length - 5}-${bytes.length - 1}/${bytes.length}`,
    text.slice(-5),
  ])
  expect(await get({ range: 'bytes=0-999999' })).toEqual([206, `bytes 0-${bytes.length - 1}/${bytes.length}`, text])
  for (const range of ['bytes=500-', 'bytes=5-4'])
    expect(await get({ range })).toEqual([416, `bytes */${bytes.length}`, ''])
  // What is no range, and several, are none.
  for (const range of ['bytes=a-b', 'bytes=0-1,3-4', 'lines=0-1'])
    expect(await get({ range })).toEqual([200, null, text])
  const etag = `"${LAYER.descriptor.digest}"`
  expect(await get({ 'if-range': etag, range: 'bytes=0-2' })).toEqual([
    206,
    `bytes 0-2/${bytes.length}`,
    text.slice(0, 3),
  ])
  expect(await get({ 'if-range': '"other"', range: 'bytes=0-2' })).toEqual([200, null, text])
  for (const tag of [etag, `W/${etag}`, `"other", ${etag}`, '*'])
    expect(await get({ 'if-none-match': tag })).toEqual([304, null, ''])
  expect(await get({ 'if-none-match': '"other"' })).toEqual([200, null, text])
  const manifest = `/v2/pull/app/manifests/1`
  const seen = (await ask(manifest)).headers.get('etag')!
  const again = await ask(manifest, { headers: { 'if-none-match': seen } })
  expect([again.status, await again.text(), again.headers.get('docker-content-digest')]).toEqual([
    304,
    '',
    MANIFEST.descriptor.digest,
  ])
})

it('clients that take manifests slowly have a bound together; what is read or answered without bytes has none', async () => {
  const { repository } = parseReference('slow/app')
  const large = (at: number, length = 1_500_000) =>
    part(
      `{ "schemaVersion": 2, "mediaType": "${MEDIA.index}", "manifests": [], "of": "${String(at).repeat(length)}" }`,
      MEDIA.index,
    )
  const [held, last] = [[1, 2, 3].map((at) => large(at)), large(4)]
  // With the three it takes all of the memory: 512 bytes are counted for each beside its own.
  const taken = held.reduce((sum, { bytes }) => sum + bytes.length + 512, 0)
  const rest = large(5, 5 * 1024 * 1024 - taken - 512 - large(5, 0).bytes.length)
  await under(async (run) => {
    for (const { bytes, descriptor } of [...held, last, rest])
      await new Repositories(store).manifests.put(repository, descriptor.digest, bytes, MEDIA.index, run)
  })
  const pathOf = ({ descriptor }: typeof last) => `/v2/slow/app/manifests/${descriptor.digest}`
  const takeSlowly = async (manifest: typeof last) => {
    const client = await RawClient.connect({ path: join(folder, 'socket') })
    client.socket.once('data', () => client.socket.pause())
    await client.send(requestText(`GET ${pathOf(manifest)}`))
    await expect.poll(() => client.text).toMatch(/^HTTP\/1\.1 200 /)
    return client
  }
  const slow = await Promise.all(held.map(takeSlowly))
  const refused = await ask(pathOf(last))
  expect([refused.headers.get('retry-after'), await errorOf(refused)]).toEqual(['1', '503 TOOMANYREQUESTS'])
  expect((await ask(pathOf(last), { method: 'HEAD' })).status).toBe(200)
  const etag = `"${last.descriptor.digest}"`
  expect((await ask(pathOf(last), { headers: { 'if-none-match': etag } })).status).toBe(304)
  // What is held already, and what is small, is served.
  expect(digestOf(Buffer.from(await (await ask(pathOf(held[0]!))).arrayBuffer()))).toBe(held[0]!.descriptor.digest)
  await load('pull/app:1')
  expect((await ask('/v2/pull/app/manifests/1')).status).toBe(200)
  // If there is no room at all, no page is answered, by `/v1` neither, and the registry is there.
  const lists = ['/repositories', '/repositories/pull%2Fapp/tags', '/manifests/pull%2Fapp%3A1/referrers']
  const fourth = await takeSlowly(rest)
  for (const list of lists) {
    const full = await askV1(list)
    expect([list, full.headers.get('retry-after'), await codeOf(full)]).toEqual([list, '1', '503 overloaded'])
  }
  expect(await (await ask('/v2/')).json()).toEqual({})
  fourth.socket.destroy()
  for (const list of lists) await expect.poll(async () => (await askV1(list)).status).toBe(200)
  slow[0]!.socket.destroy()
  await expect.poll(async () => (await ask(pathOf(last))).status).toBe(200)
  slow[1]!.socket.resume()
  expect(await slow[1]!.receive(/2" \}$/)).toContain('"of": "2222')
  for (const { socket } of slow) socket.destroy()
})

it('bytes of a blob that the kernel sends from its file are in the metrics', async () => {
  const bytes = randomBytes(900_000)
  const digest = digestOf(bytes)
  await under(async ({ lease }) => {
    await new BlobStore(store).add(digest, bytes, lease)
    await new Repositories(store).blobs.add(parseReference('sent/app').repository, [digest], lease)
  })
  const sent = async (): Promise<number> => {
    const { text } = await allMetrics.scrape()
    const found = [...text.matchAll(/^strata_http_sent_bytes_total\{.*<digest>.*\} (\d+)$/gm)]
    return found.reduce((sum, [, value]) => sum + Number(value), 0)
  }
  const before = await sent()
  const answer = await ask(`/v2/sent/app/blobs/${digest}`)
  expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true)
  await expect.poll(sent).toBeGreaterThanOrEqual(before + bytes.length)
})

it('a repository is the one of that name everywhere', async () => {
  await load('names:1', 'ghcr.io/org/names:1', 'localhost:5000/names:1')
  for (const name of [
    'names',
    'library/names',
    'docker.io/names',
    'docker.io/library/names',
    'ghcr.io/org/names',
    'localhost:5000/names',
  ])
    expect((await ask(`/v2/${name}/manifests/1`)).status, name).toBe(200)
  for (const name of ['org/names', 'other/names'])
    expect(await errorOf(await ask(`/v2/${name}/manifests/1`))).toBe('404 MANIFEST_UNKNOWN')
})

it('names that are none are refused before anything is read', async () => {
  const long = 'a'.repeat(300)
  for (const name of [
    'a/Upper',
    '-a',
    'a..b',
    'a//b',
    long,
    `a/${long}`,
    'a:5',
    '_catalog/x',
    'a%2Fb',
    'a/../b',
    '..',
    'a/%2e%2e/b',
    '%2e%2e',
  ])
    expect(await errorOf(await askAsIs(`/v2/${name}/manifests/1`)), name).toBe('400 NAME_INVALID')
  for (const digest of [
    'sha256:',
    'sha256:00',
    `sha256:${'A'.repeat(64)}`,
    `sha256:${'0'.repeat(63)}g`,
    'md5:00',
    'none',
    '..:..',
  ])
    expect(await errorOf(await askAsIs(`/v2/a/blobs/${digest}`)), digest).toBe('400 DIGEST_INVALID')
  for (const tag of ['-a', 'a'.repeat(129), '%20'])
    expect(await errorOf(await ask(`/v2/a/manifests/${tag}`)), tag).toBe('404 MANIFEST_UNKNOWN')
})

it('a blob of another repository is not there', async () => {
  await load('pull/app:1')
  expect(await errorOf(await ask(`/v2/other/app/blobs/${LAYER.descriptor.digest}`))).toBe('404 BLOB_UNKNOWN')
  expect(await errorOf(await ask(`/v2/other/app/manifests/${MANIFEST.descriptor.digest}`))).toBe('404 MANIFEST_UNKNOWN')
})

it('a manifest is sent to who takes its type', async () => {
  await load('pull/app:1')
  const get = (accept: string) => ask('/v2/pull/app/manifests/1', { headers: { accept } })
  for (const accept of [MEDIA.manifest, `${MEDIA.index}, ${MEDIA.manifest}`, '*/*', 'application/json'])
    expect((await get(accept)).status, accept).toBe(200)
  expect(await errorOf(await get(MEDIA.dockerManifest))).toBe('404 MANIFEST_UNKNOWN')
})

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

/** All entries of a list, page by page, by the links in the answers. */
async function* pages<T>(path: string, of: (body: never) => T[]): AsyncGenerator<T[]> {
  for (let next: string | undefined = path; next !== undefined;) {
    const answer = await ask(next)
    expect(answer.status).toBe(200)
    yield of((await answer.json()) as never)
    next = /^<(.+)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1]
  }
}

it('tags are pages, in the order of their bytes', async () => {
  await load(...['a', 'B', 'c', '0', 'd'].map((tag) => `tags/app:${tag}`))
  const tagsOf = ({ tags }: { tags: string[] }) => tags
  expect(await all(pages('/v2/tags/app/tags/list?n=2', tagsOf))).toEqual([['0', 'B'], ['a', 'c'], ['d']])
  const list = async (query: string) => (await ask(`/v2/tags/app/tags/list${query}`)).json()
  expect(await list('')).toEqual({ name: 'tags/app', tags: ['0', 'B', 'a', 'c', 'd'] })
  expect(await list('?last=b')).toEqual({ name: 'tags/app', tags: ['c', 'd'] })
  expect(await list('?last=z')).toEqual({ name: 'tags/app', tags: [] })
  expect(await list('?n=0')).toEqual({ name: 'tags/app', tags: [] })
  expect(await list('?n=1000000000')).toMatchObject({ tags: ['0', 'B', 'a', 'c', 'd'] })
  for (const query of ['?n=-1', '?n=NaN', '?n=', '?n=1e9', '?n=1.5', '?last=a b'])
    expect(await errorOf(await ask(`/v2/tags/app/tags/list${query}`)), query).toBe('400 UNSUPPORTED')
  expect(await errorOf(await ask('/v2/tags/nothing/tags/list'))).toBe('404 NAME_UNKNOWN')
})

it('the catalog is pages of names that a client can use', async () => {
  await load('catalog:1', 'catalog/b:1', 'ghcr.io/catalog/c:1')
  const namesOf = ({ repositories }: { repositories: string[] }) => repositories
  const names = (await all(pages('/v2/_catalog?n=1', namesOf))).flat()
  expect(names).toEqual((await all(pages('/v2/_catalog', namesOf))).flat())
  expect(names.filter((name) => name.includes('catalog'))).toEqual(['catalog/b', 'catalog', 'ghcr.io/catalog/c'])
  for (const name of names) expect((await ask(`/v2/${name}/tags/list`)).status, name).toBe(200)
  expect(await (await ask('/v2/_catalog?n=0')).json()).toEqual({ repositories: [] })
  expect(await errorOf(await ask('/v2/_catalog?n=-1'))).toBe('400 UNSUPPORTED')
})

it('referrers are an index, filtered by their type, page by page', async () => {
  const subject = digestOf('not there yet')
  const signatures = [await attach('refs/app', subject, 'a/signature')]
  const sboms = [await attach('refs/app', subject, 'a/sbom')]
  await attach('refs/other', subject, 'a/other')
  const path = `/v2/refs/app/referrers/${subject}`
  const answer = await ask(path)
  expect(answer.headers.get('content-type')).toBe(MEDIA.index)
  expect(answer.headers.get('oci-filters-applied')).toBeNull()
  const { manifests, ...index } = (await answer.json()) as { manifests: { digest: string }[] }
  expect(index).toEqual({ schemaVersion: 2, mediaType: MEDIA.index })
  expect(manifests.map(({ digest }) => digest)).toEqual([...signatures, ...sboms].sort())
  const filtered = await ask(`${path}?artifactType=a%2Fsbom`)
  expect(filtered.headers.get('oci-filters-applied')).toBe('artifactType')
  expect(await filtered.json()).toMatchObject({
    manifests: [{ digest: sboms[0], mediaType: MEDIA.manifest, artifactType: 'a/sbom', annotations: { of: 'a/sbom' } }],
  })
  const digestsOf = (body: { manifests: { digest: string }[] }) => body.manifests.map(({ digest }) => digest)
  expect(await all(pages(`${path}?n=1`, digestsOf))).toEqual([...signatures, ...sboms].sort().map((digest) => [digest]))
  expect(await (await ask(`/v2/refs/nothing/referrers/${subject}`)).json()).toMatchObject({ manifests: [] })
  expect(await errorOf(await ask('/v2/refs/app/referrers/none'))).toBe('400 DIGEST_INVALID')
})

/** `/v1` takes no Basic credentials. */
const askV1 = (path: string, init: Init = {}): Promise<Response> =>
  ask(`/v1${path}`, { ...init, headers: { authorization: `Bearer ${TOKEN}` } })
const codeOf = async (answer: Response): Promise<string> =>
  `${answer.status} ${((await answer.json()) as { code: string }).code}`
/** All items of a list of `/v1`, page by page. */
async function allOf<T>(path: string, of: (body: never) => T[]): Promise<T[][]> {
  const found: T[][] = []
  for (let after: string | undefined = ''; after !== undefined;) {
    const answer = await askV1(`${path}${after}`)
    expect(answer.status).toBe(200)
    const body = (await answer.json()) as { next?: string }
    found.push(of(body as never))
    after = body.next === undefined ? undefined : `&after=${encodeURIComponent(body.next)}`
  }
  return found
}

it('/v1 lists the repositories and tags of /v2, in pages', async () => {
  await load('seen/app:1', 'seen/app:B', 'seen:1', 'ghcr.io/seen/app:1')
  const namesOf = ({ repositories }: { repositories: { name: string }[] }) => repositories.map(({ name }) => name)
  const { repositories } = (await (await ask('/v2/_catalog')).json()) as { repositories: string[] }
  for (const limit of [1, 1_000])
    expect((await allOf(`/repositories?limit=${limit}`, namesOf)).flat()).toEqual(repositories)
  expect(repositories).toEqual(expect.arrayContaining(['seen/app', 'seen', 'ghcr.io/seen/app']))
  const tagsOf = ({ tags }: { tags: { name: string }[] }) => tags.map(({ name }) => name)
  expect(await allOf('/repositories/seen%2Fapp/tags?limit=1', tagsOf)).toEqual([['1'], ['B']])
  expect(await (await askV1('/repositories/library%2Fseen/tags')).json()).toEqual({
    repository: 'seen',
    tags: [{ name: '1' }],
  })
  expect(await codeOf(await askV1('/repositories/nothing/tags'))).toBe('404 repository_not_found')
  for (const path of ['/repositories?after=a//b', '/repositories/seen%3A1/tags', '/repositories/A%2F..%2Fb/tags'])
    expect(await codeOf(await askV1(path)), path).toBe('400 name_invalid')
  for (const path of [
    '/repositories?limit=1001',
    '/repositories/seen/tags?after=a%2F',
    '/repositories/seen/tags?limit=-1',
  ])
    expect(await codeOf(await askV1(path)), path).toBe('400 bad_request')
})

it('/v1 gives a manifest by any name, and its referrers in pages', async () => {
  await load('named/app:1', 'named/app:latest')
  const { digest } = MANIFEST.descriptor
  for (const name of ['named/app:1', 'named/app', `named/app@${digest}`, `named/app:none@${digest}`]) {
    const answer = await askV1(`/manifests/${encodeURIComponent(name)}`)
    expect([answer.status, answer.headers.get('content-type')], name).toEqual([200, MEDIA.manifest])
    expect(answer.headers.get('docker-content-digest')).toBe(digest)
    expect(Buffer.from(await answer.arrayBuffer()).equals(MANIFEST.bytes)).toBe(true)
  }
  const sorted = [await attach('named/app', digest, 'a/signature'), await attach('named/app', digest, 'a/sbom')].sort()
  const referrersOf = ({ referrers }: { referrers: { digest: string }[] }) => referrers.map((one) => one.digest)
  for (const name of ['named/app:1', `named/app@${digest}`])
    expect(await allOf(`/manifests/${encodeURIComponent(name)}/referrers?limit=1`, referrersOf)).toEqual(
      sorted.map((one) => [one]),
    )
  const filtered = await askV1('/manifests/named%2Fapp/referrers?artifactType=a%2Fsbom')
  expect(await filtered.json()).toMatchObject({
    subject: digest,
    referrers: [{ mediaType: MEDIA.manifest, artifactType: 'a/sbom', annotations: { of: 'a/sbom' } }],
  })
  const absent = encodeURIComponent(`named/app@${digestOf('absent')}`)
  expect(await (await askV1(`/manifests/${absent}/referrers`)).json()).toMatchObject({ referrers: [] })
  for (const path of [absent, 'named%2Fapp%3Anone', 'named%2Fapp%3Anone/referrers'])
    expect(await codeOf(await askV1(`/manifests/${path}`)), path).toBe('404 manifest_not_found')
  expect(await codeOf(await askV1('/manifests/a%20b'))).toBe('400 name_invalid')
})

it('a tag that is marked as deprecated has a warning, on GET and HEAD, and no other has', async () => {
  await pushBlobs('warn/app')
  const marked = (annotations: Record<string, string>) =>
    part({ ...(JSON.parse(MANIFEST.bytes.toString()) as object), annotations }, MEDIA.manifest)
  const hub = { 'io.artifacthub.package.deprecated': 'true' }
  const day = 'vnd.microsoft.artifact.lifecycle.end-of-life.date'
  const child = marked({ ...hub, of: 'a child' })
  const index = (annotations?: Record<string, string>) =>
    part(
      {
        schemaVersion: 2,
        mediaType: MEDIA.index,
        manifests: [{ ...child.descriptor, platform: { os: 'linux', architecture: 'amd64' } }],
        annotations,
      },
      MEDIA.index,
    )
  const pushed: [tag: string, manifest: ReturnType<typeof part>, warning: string | null][] = [
    ['child', child, '299 - "warn/app:child is deprecated"'],
    ['plain', MANIFEST, null],
    ['old', marked({ [day]: '2020-02-02' }), '299 - "warn/app:old is deprecated (end of life: 2020-02-02)"'],
    ['later', marked({ [day]: '2999-01-01' }), null],
    ['index', index(hub), '299 - "warn/app:index is deprecated"'],
    // What its child says is not of the index.
    ['index-of-old', index(), null],
  ]
  for (const [tag, manifest, warning] of pushed) {
    expect((await putManifest('warn/app', tag, manifest)).status, tag).toBe(201)
    for (const method of ['GET', 'HEAD'])
      expect((await ask(`/v2/warn/app/manifests/${tag}`, { method })).headers.get('warning'), tag).toBe(warning)
    expect((await askV1(`/manifests/warn%2Fapp%3A${tag}`)).headers.get('warning'), tag).toBe(warning)
  }
  const byDigest = `warn/app@${child.descriptor.digest}`
  expect((await ask(`/v2/${byDigest.replace('@', '/manifests/')}`)).headers.get('warning')).toBe(
    `299 - "${byDigest} is deprecated"`,
  )
  const unchanged = await ask('/v2/warn/app/manifests/child', {
    headers: { 'if-none-match': `"${child.descriptor.digest}"` },
  })
  expect([unchanged.status, unchanged.headers.get('warning')]).toEqual([304, '299 - "warn/app:child is deprecated"'])
  // What is loaded is marked as well as what is pushed.
  await under(async (run) => {
    await new Images(store).put(marked({ ...hub, of: 'a load' }).bytes, [parseTagged('warn/loaded:1')], run)
  })
  expect((await ask('/v2/warn/loaded/manifests/1', { method: 'HEAD' })).headers.get('warning')).toBe(
    '299 - "warn/loaded:1 is deprecated"',
  )
})

it('what a manifest needs and only the store has is not told to a repository that lacks it', async () => {
  await pushBlobs('told/has')
  const { digest } = LAYER.descriptor
  const refused = async (descriptor: { digest: string; size: number }): Promise<string> => {
    const put = await putManifest(
      'told/lacks',
      '1',
      part({ schemaVersion: 2, mediaType: MEDIA.manifest, config: descriptor, layers: [] }, MEDIA.manifest),
    )
    const { errors } = (await put.json()) as { errors: { code: string; message: string }[] }
    return `${put.status} ${errors[0]!.code} ${errors[0]!.message.replaceAll(/sha256:[0-9a-f]+/g, 'X')}`
  }
  const nowhere = await refused({ ...LAYER.descriptor, digest: digestOf('nowhere') })
  expect(nowhere).toContain('400 MANIFEST_BLOB_UNKNOWN')
  expect(await refused({ ...LAYER.descriptor, digest })).toBe(nowhere)
  expect(await refused({ ...LAYER.descriptor, digest, size: 1 })).toBe(nowhere)
})

it('the token is the password of any user, and Basic credentials are for the registry only', async () => {
  for (const authorization of [basic('', TOKEN), basic('someone', TOKEN), `Bearer ${TOKEN}`]) {
    const answer = await ask('/v2/', { headers: { authorization } })
    expect([answer.status, answer.headers.get('docker-distribution-api-version')]).toEqual([200, 'registry/2.0'])
    expect((await ask('/v2', { headers: { authorization } })).status).toBe(200)
  }
  const wrong = [
    basic('someone', `${TOKEN}x`),
    basic(TOKEN, ''),
    basic('a:b', TOKEN),
    'Basic %%%',
    `Basic ${TOKEN}`,
    'Basic',
    '',
  ]
  for (const authorization of wrong) {
    const answer = await ask('/v2/pull/app/manifests/1', { headers: { authorization } })
    expect(answer.headers.get('www-authenticate')).toBe('Basic realm="strata"')
    expect(await errorOf(answer)).toBe('401 UNAUTHORIZED')
  }
  // What a page of another site makes a browser send, and no client of a registry.
  const ofPages: Record<string, string>[] = [
    { origin: 'http://other' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { 'sec-fetch-site': 'none', origin: 'http://other' },
    { 'sec-fetch-site': 'cross-site', origin: url },
  ]
  for (const headers of ofPages) expect((await askOfPage('/v2/', headers)).status, JSON.stringify(headers)).toBe(401)
  // The last one is what a browser sends with a DELETE of a page behind this address.
  const ofNone: Record<string, string>[] = [
    { 'sec-fetch-site': 'none' },
    { 'sec-fetch-site': 'same-origin' },
    { 'sec-fetch-site': 'same-origin', origin: url },
  ]
  for (const headers of ofNone) expect((await askOfPage('/v2/', headers)).status, JSON.stringify(headers)).toBe(200)
  for (const path of ['/v1/images', '/v22', '/v2x/..', '//v2/']) expect((await ask(path)).status, path).toBe(401)
})

const CASES: [what: string, path: string, init: Init, status: number, v2: string, v1: ErrorCode][] = [
  ['a path that is not there', '/nowhere/at/all', {}, 404, 'UNSUPPORTED', 'not_found'],
  ['no token', '/', { headers: { authorization: 'Bearer x' } }, 401, 'UNAUTHORIZED', 'unauthorized'],
  [
    'no token, and a body',
    '/x',
    { method: 'POST', body: '{}', headers: { authorization: 'Bearer x' } },
    401,
    'UNAUTHORIZED',
    'unauthorized',
  ],
  ['a path that is no text', '/%ff', {}, 400, 'UNSUPPORTED', 'bad_request'],
]
it.each(CASES)('%s: each API answers in its own form', async (_, path, init, status, v2, v1) => {
  const headers = { authorization: `Bearer ${TOKEN}`, ...init.headers }
  expect(await errorOf(await ask(`/v2${path}`, { ...init, headers }))).toBe(`${status} ${v2}`)
  const problem = await ask(`/v1${path}`, { ...init, headers })
  expect(problem.status).toBe(status)
  expect(problem.headers.get('content-type')).toContain('application/problem+json')
  expect(problem.headers.get('www-authenticate')).toBeNull()
  expect(await problem.json()).toMatchObject({ status, code: v1 })
})

const random = (size: number): Buffer<ArrayBuffer> => Buffer.from(randomBytes(size))
/** Begins an upload; gives its address. */
const begin = async (name: string, query = ''): Promise<string> => {
  const answer = await ask(`/v2/${name}/blobs/uploads/${query}`, { method: 'POST' })
  expect(answer.status).toBe(202)
  expect(answer.headers.get('range')).toBe('0-0')
  // A hundred thousand of them are STRATA_MAX_BLOB_BYTES.
  expect(answer.headers.get('oci-chunk-min-length')).toBe('10')
  return answer.headers.get('location')!
}
const patch = (location: string, body: Uint8Array<ArrayBuffer>, range?: string): Promise<Response> =>
  ask(location, { method: 'PATCH', body, headers: range === undefined ? {} : { 'content-range': range } })
const finish = (location: string, digest: string, body?: Uint8Array<ArrayBuffer>): Promise<Response> =>
  ask(`${location}?digest=${digest}`, { method: 'PUT', ...(body ? { body } : {}) })
const rangeOf = async (location: string): Promise<string | null> => {
  const answer = await ask(location)
  expect([answer.status, answer.headers.get('location')]).toEqual([204, location])
  return answer.headers.get('range')
}
const expectBlob = async (name: string, bytes: Uint8Array): Promise<void> => {
  const answer = await ask(`/v2/${name}/blobs/${digestOf(bytes)}`)
  expect(answer.status).toBe(200)
  expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true)
}

it('a blob is pushed in one request, in two, in chunks; JSON is bytes as any', async () => {
  for (const bytes of [random(5_000), Buffer.from('{"a":'), Buffer.alloc(0)]) {
    const digest = digestOf(bytes)
    const one = await ask(`/v2/push/one/blobs/uploads/?digest=${digest}`, {
      method: 'POST',
      body: bytes,
      headers: json,
    })
    expect([one.status, one.headers.get('location'), one.headers.get('docker-content-digest')]).toEqual([
      201,
      `/v2/push/one/blobs/${digest}`,
      digest,
    ])
    await expectBlob('push/one', bytes)
    const two = await finish(await begin('push/two'), digest, bytes)
    expect([two.status, two.headers.get('location')]).toEqual([201, `/v2/push/two/blobs/${digest}`])
    await expectBlob('push/two', bytes)
  }
  const bytes = random(9_000)
  const location = await begin('push/chunks')
  for (let i = 0; i < 2; i++) expect((await ask(location, { method: 'PATCH' })).status).toBe(202)
  for (const [first, last] of [
    [0, 3_999],
    [4_000, 4_000],
    [4_001, 7_999],
  ] as const) {
    const answer = await patch(location, bytes.subarray(first, last + 1), `${first}-${last}`)
    expect([answer.status, answer.headers.get('range'), answer.headers.get('location')]).toEqual([
      202,
      `0-${last}`,
      location,
    ])
    expect(await rangeOf(location)).toBe(`0-${last}`)
  }
  expect((await finish(location, digestOf(bytes), bytes.subarray(8_000))).status).toBe(201)
  await expectBlob('push/chunks', bytes)
  expect(await errorOf(await ask(location))).toBe('404 BLOB_UPLOAD_UNKNOWN')
})

it('gaps, overlaps, repetitions and lies of chunks are refused, with the right range', async () => {
  const bytes = random(5_000)
  const location = await begin('push/lies')
  await patch(location, bytes.subarray(0, 2_000), '0-1999')
  for (const range of [
    '3000-4999',
    '1000-3999',
    '0-2999',
    '2000-4998',
    '2000-5000',
    '4999-2000',
    'a-b',
    'bytes 2000',
    '-1',
    '2000-',
    '9'.repeat(30),
  ]) {
    const answer = await patch(location, bytes.subarray(2_000), range)
    expect(answer.headers.get('range'), range).toBe('0-1999')
    expect(answer.headers.get('location')).toBe(location)
    expect(await errorOf(answer), range).toBe('416 BLOB_UPLOAD_INVALID')
  }
  expect(await rangeOf(location)).toBe('0-1999')
  expect(await errorOf(await finish(location, digestOf('other'), bytes.subarray(2_000)))).toBe('400 DIGEST_INVALID')
  expect(await errorOf(await finish(location, 'sha256:00'))).toBe('400 DIGEST_INVALID')
  expect(await errorOf(await ask(location, { method: 'PUT' }))).toBe('400 DIGEST_INVALID')
  expect(await errorOf(await patch(location, random(1_000_000)))).toBe('413 SIZE_INVALID')
  expect(await errorOf(await patch(location.replace('push/lies', 'push/other'), bytes))).toBe('404 BLOB_UPLOAD_UNKNOWN')
  expect((await finish(location, digestOf(bytes), bytes.subarray(2_000))).status).toBe(201)
  await expectBlob('push/lies', bytes)
})

/** A request that sends the beginning of a chunk, and is being served. */
async function sending(location: string, part: Uint8Array): Promise<ClientRequest> {
  const runOf = async () => (await new Leases(store).get(location.split('/').at(-1)!))?.run
  const before = await runOf()
  const headers = { authorization: basic('', TOKEN), 'content-length': 6_000 }
  const client = request({ ...urlParts(), method: 'PATCH', path: location, headers })
  client.on('error', () => undefined)
  client.write(part)
  await expect.poll(runOf).not.toBe(before)
  return client
}

it('an upload goes on behind a connection that broke, and behind one that stands still', async () => {
  const bytes = random(6_000)
  const location = await begin('push/broken')
  const broken = await sending(location, bytes.subarray(0, 1_000))
  await new Promise<void>((resolve) => broken.write(bytes.subarray(1_000, 2_000), () => resolve()))
  broken.destroy()
  // The gateway may see the end of the connection before it has read the last of what came.
  await expect.poll(() => rangeOf(location)).toMatch(/^0-1?999$/)
  const kept = (await rangeOf(location)) === '0-999' ? 1_000 : 2_000
  const still = await sending(location, bytes.subarray(kept, 3_000))
  const [answer] = (await once(still, 'response')) as [IncomingMessage]
  expect(answer.statusCode).toBe(408)
  still.destroy()
  expect(await rangeOf(location)).toBe('0-2999')
  expect((await patch(location, bytes.subarray(3_000), '3000-5999')).status).toBe(202)
  expect((await finish(location, digestOf(bytes))).status).toBe(201)
  await expectBlob('push/broken', bytes)
})

it('no more bodies than the gateway may have open are taken', async () => {
  const location = await begin('push/many')
  const open: ClientRequest[] = []
  for (let i = 0; i < 2; i++) open.push(await sending(await begin('push/many'), random(1)))
  expect(await errorOf(await patch(location, random(1)))).toBe('503 TOOMANYREQUESTS')
  // What needs no room is taken.
  expect(await rangeOf(location)).toBe('0-0')
  for (const client of open) client.destroy()
  await expect.poll(async () => (await patch(location, random(1))).status).toBe(202)
})

it('no more uploads are begun than may be open, and one that ends makes room', async () => {
  const path = '/v2/push/begun/blobs/uploads/'
  const begun: string[] = []
  let last: Response
  for (;;) {
    last = await ask(path, { method: 'POST' })
    if (last.status !== 202 || begun.length > 100) break
    begun.push(last.headers.get('location')!)
  }
  expect(await errorOf(last)).toBe('503 TOOMANYREQUESTS')
  // Mounts that come to nothing begin an upload too.
  expect((await ask(`${path}?mount=${digestOf('nowhere')}`, { method: 'POST' })).status).toBe(503)
  // An upload that is open goes on.
  expect((await finish(begun.pop()!, digestOf('begun'), Buffer.from('begun'))).status).toBe(201)
  begun.push(await begin('push/begun'))
  // These are ended as by another gateway, or by the reaper: it is found out by looking.
  for (const location of begun) await new Leases(store).end(location.split('/').at(-1)!)
  await expect.poll(async () => (await ask(path, { method: 'POST' })).status).toBe(202)
})

it('a blob is mounted from another repository, or from any; otherwise an upload begins', async () => {
  const bytes = random(100)
  const digest = digestOf(bytes)
  const mount = (name: string, query: string) =>
    ask(`/v2/${name}/blobs/uploads/?mount=${digest}${query}`, { method: 'POST' })
  expect((await mount('mount/to', '&from=mount/from')).status).toBe(202)
  await finish(await begin('mount/from'), digest, bytes)
  expect((await mount('mount/to', '&from=mount/nothing')).status).toBe(202)
  expect(await errorOf(await ask(`/v2/mount/to/blobs/${digest}`))).toBe('404 BLOB_UNKNOWN')
  const mounted = await mount('mount/to', '&from=mount/from')
  expect([mounted.status, mounted.headers.get('location')]).toEqual([201, `/v2/mount/to/blobs/${digest}`])
  await expectBlob('mount/to', bytes)
  expect((await mount('mount/any', '')).status).toBe(201)
  await expectBlob('mount/any', bytes)
})

const json = { 'content-type': 'application/json' }
const putManifest = (
  name: string,
  reference: string,
  manifest: { bytes: Buffer<ArrayBuffer>; descriptor: { mediaType: string } },
) =>
  ask(`/v2/${name}/manifests/${reference}`, {
    method: 'PUT',
    body: manifest.bytes,
    headers: { 'content-type': manifest.descriptor.mediaType },
  })
const pushBlobs = async (name: string): Promise<void> => {
  for (const { bytes } of [CONFIG, LAYER])
    expect((await finish(await begin(name), digestOf(bytes), bytes)).status).toBe(201)
}

it('a manifest is put by tag, by digest, and by digest with tags; it is an image then', async () => {
  const { digest } = MANIFEST.descriptor
  expect(await errorOf(await putManifest('push/app', '1', MANIFEST))).toBe('400 MANIFEST_BLOB_UNKNOWN')
  await pushBlobs('push/app')
  const put = await putManifest('push/app', '1', MANIFEST)
  expect([put.status, put.headers.get('location'), put.headers.get('docker-content-digest')]).toEqual([
    201,
    `/v2/push/app/manifests/${digest}`,
    digest,
  ])
  expect(put.headers.get('oci-subject')).toBeNull()
  expect((await putManifest('push/app', digest, MANIFEST)).status).toBe(201)
  const tagged = await putManifest('push/app', `${digest}?tag=2&tag=3`, MANIFEST)
  expect([tagged.status, tagged.headers.get('oci-tag')]).toEqual([201, '2, 3'])
  expect(await (await ask('/v2/push/app/tags/list')).json()).toEqual({ name: 'push/app', tags: ['1', '2', '3'] })
  const got = await ask('/v2/push/app/manifests/3')
  expect(Buffer.from(await got.arrayBuffer()).equals(MANIFEST.bytes)).toBe(true)
  const image = await ask(`/v1/images/${encodeURIComponent('push/app:2')}`, {
    headers: { authorization: `Bearer ${TOKEN}` },
  })
  expect(await image.json()).toMatchObject({
    id: CONFIG.descriptor.digest,
    digest,
    names: expect.arrayContaining(['push/app:1', 'push/app:2', 'push/app:3']) as string[],
  })
})

it('manifests that are none are refused in words', async () => {
  await pushBlobs('push/app')
  const of = (bytes: string, mediaType: string = MEDIA.manifest) => ({
    bytes: Buffer.from(bytes),
    descriptor: { mediaType },
  })
  const put = async (manifest: ReturnType<typeof of>, reference = 'x') =>
    errorOf(await putManifest('push/app', reference, manifest))
  const [whole, both] = [MANIFEST.bytes.toString(), `{"manifests":[],${MANIFEST.bytes.toString().slice(1)}`]
  expect(await put(of('{'))).toBe('400 MANIFEST_INVALID')
  expect(await put(of('[]'))).toBe('400 MANIFEST_INVALID')
  expect(await put(of(whole, MEDIA.index))).toBe('400 MANIFEST_INVALID')
  expect(await put(of(whole, MEDIA.dockerManifest))).toBe('400 MANIFEST_INVALID')
  expect(await put(of(whole, 'text/plain'))).toBe('400 MANIFEST_INVALID')
  expect(await put(of(whole, 'application/vnd.docker.distribution.manifest.v1+prettyjws'))).toBe('400 MANIFEST_INVALID')
  expect(await put(of(both))).toBe('400 MANIFEST_INVALID')
  expect(await put(of(whole), digestOf('x'))).toBe('400 DIGEST_INVALID')
  expect(await put(of(whole), 'sha256:00')).toBe('400 DIGEST_INVALID')
  expect(await put(of(whole.padEnd(100_001)))).toBe('413 SIZE_INVALID')
  expect((await putManifest('push/app', 'x', of(whole.padEnd(100_000)))).status).toBe(201)
  expect(await put(of(whole), `${MANIFEST.descriptor.digest}?${'tag=a&'.repeat(101)}`)).toBe('413 SIZE_INVALID')
  for (const tag of ['-a', '', '5000/foo', 'v1@sha256:', `v1@${MANIFEST.descriptor.digest}`, 'a:b', 'a/b:c'])
    expect(await put(of(whole), `${MANIFEST.descriptor.digest}?tag=${encodeURIComponent(tag)}`), tag).toBe(
      '400 NAME_INVALID',
    )
  const { tags } = (await (await ask('/v2/push/app/tags/list')).json()) as { tags: string[] }
  expect(tags).not.toContain('undefined')
  expect(tags).not.toContain('v1')
  const lie = whole.replace(`"size":${LAYER.bytes.length}`, `"size":${Number.MAX_SAFE_INTEGER}`)
  expect(await put(of(lie))).toBe('400 MANIFEST_INVALID')
})

it('a manifest of a subject says so, and is among its referrers', async () => {
  await pushBlobs('push/refs')
  const subject = digestOf('no such manifest')
  const referrer = part(
    {
      ...(JSON.parse(MANIFEST.bytes.toString()) as object),
      subject: { mediaType: MEDIA.manifest, digest: subject, size: 3 },
    },
    MEDIA.manifest,
  )
  const put = await putManifest('push/refs', referrer.descriptor.digest, referrer)
  expect([put.status, put.headers.get('oci-subject')]).toEqual([201, subject])
  const listed = (await (await ask(`/v2/push/refs/referrers/${subject}`)).json()) as { manifests: object[] }
  expect(listed.manifests).toMatchObject([{ digest: referrer.descriptor.digest }])
})

it('tags, manifests and blobs are deleted, and uploads cancelled', async () => {
  await pushBlobs('push/gone')
  const { digest } = MANIFEST.descriptor
  for (const tag of ['1', '2']) await putManifest('push/gone', tag, MANIFEST)
  const remove = (path: string) => ask(`/v2/push/gone/${path}`, { method: 'DELETE' })
  expect((await remove('manifests/1')).status).toBe(202)
  expect(await errorOf(await ask('/v2/push/gone/manifests/1'))).toBe('404 MANIFEST_UNKNOWN')
  expect((await ask(`/v2/push/gone/manifests/${digest}`)).status).toBe(200)
  expect((await remove(`manifests/${digest}`)).status).toBe(202)
  for (const reference of ['2', digest])
    expect(await errorOf(await ask(`/v2/push/gone/manifests/${reference}`))).toBe('404 MANIFEST_UNKNOWN')
  expect((await remove(`blobs/${LAYER.descriptor.digest}`)).status).toBe(202)
  expect(await errorOf(await ask(`/v2/push/gone/blobs/${LAYER.descriptor.digest}`))).toBe('404 BLOB_UNKNOWN')
  for (const path of ['manifests/1', `manifests/${digest}`])
    expect(await errorOf(await remove(path))).toBe('404 MANIFEST_UNKNOWN')
  expect(await errorOf(await remove(`blobs/${LAYER.descriptor.digest}`))).toBe('404 BLOB_UNKNOWN')
  const location = await begin('push/gone')
  expect((await ask(location, { method: 'DELETE' })).status).toBe(204)
  for (const method of ['DELETE', 'GET', 'PATCH'])
    expect(await errorOf(await ask(location, { method }))).toBe('404 BLOB_UPLOAD_UNKNOWN')
  expect(await errorOf(await finish(location, digestOf('')))).toBe('404 BLOB_UPLOAD_UNKNOWN')
  for (const id of ['-'.repeat(36), `${'0'.repeat(35)}-`, 'x'])
    expect(await errorOf(await ask(`/v2/push/gone/blobs/uploads/${id}`)), id).toBe('404 BLOB_UPLOAD_UNKNOWN')
})

it('sha512 is a digest as any other', async () => {
  const bytes = random(2_000)
  const digest = digestOf(bytes, 'sha512')
  const location = await begin('push/long', '?digest-algorithm=sha512')
  await patch(location, bytes)
  expect((await finish(location, digest)).status).toBe(201)
  expect((await ask(`/v2/push/long/blobs/${digest}`)).status).toBe(200)
  expect(await errorOf(await ask('/v2/push/long/blobs/uploads/?digest-algorithm=md5', { method: 'POST' }))).toBe(
    '400 DIGEST_INVALID',
  )
})

describe('the metrics', () => {
  const scrape = async (): Promise<string> =>
    (await ask('/metrics', { headers: { authorization: `Bearer ${TOKEN}` } })).text()
  const value = async (series: string): Promise<number> => {
    const line = (await scrape()).split('\n').find((one) => one.startsWith(`${series} `))
    return Number(line?.slice(series.length + 1) ?? 0)
  }

  it('are for those who have the token', async () => {
    for (const headers of [{ authorization: '' }, { authorization: basic('any', TOKEN) }])
      expect((await ask('/metrics', { headers })).status).toBe(401)
    const answer = await ask('/metrics', { headers: { authorization: `Bearer ${TOKEN}` } })
    expect([answer.status, answer.headers.get('content-type')]).toEqual([
      200,
      'text/plain; version=0.0.4; charset=utf-8',
    ])
    const text = await answer.text()
    for (const queue of ['ingest', 'extract', 'runtime', 'storage', 'collect'])
      expect(text).toContain(`strata_queue_jobs{service="gateway",queue="${queue}",state="waiting"} 0\n`)
  })

  it('have the patterns of the routes, and no name, tag or digest', async () => {
    const paths = (n: number): string[] => [
      `/v2/m${n}/x/tags/list`,
      `/v2/m${n}/manifests/v${n}`,
      `/v2/m${n}/manifests/${digestOf(String(n))}`,
      `/v2/m${n}/blobs/${digestOf(String(n))}`,
      `/v2/m${n}/blobs/uploads/${n}`,
      `/v2/m${n}/referrers/${digestOf(String(n))}`,
      `/v2/${n}`,
      `/v1/images/m${n}`,
    ]
    const askAll = async (n: number): Promise<void> => {
      for (const path of paths(n)) await (await ask(path)).arrayBuffer()
    }
    await askAll(0)
    const before = await scrape()
    for (let n = 1; n <= 25; n++) await askAll(n)
    const after = await scrape()
    const seriesOf = (text: string) =>
      text
        .split('\n')
        .filter((line) => line.startsWith('strata_http') && !line.includes('route="/metrics"'))
        .map((line) => line.replace(/ \S+$/, ''))
    expect(seriesOf(after)).toEqual(seriesOf(before))
    for (const route of ['tags/list', 'manifests/<reference>', 'blobs/<digest>', 'blobs/uploads/<upload>'])
      expect(after).toContain(`method="GET",route="/v2/<name>/${route}",status="4xx"`)
    expect(after).toContain('method="GET",route="/v1/images/:ref",status="4xx"')
    expect(after).toContain('method="GET",route="/v2/*",status="4xx"')
  })

  it('tell of uploads that are under way, and of those that were hashed again', async () => {
    const bytes = random(2_000)
    const location = await begin('metrics/app')
    const patch = request({
      ...urlParts(),
      path: location,
      method: 'PATCH',
      headers: { authorization: basic('any', TOKEN) },
    })
    patch.write(bytes.subarray(0, 1_000))
    await expect.poll(() => value('strata_uploads_in_progress{service="gateway",kind="push"}')).toBe(1)
    patch.end(bytes.subarray(1_000))
    const [answer] = (await once(patch, 'response')) as [IncomingMessage]
    expect(answer.resume().statusCode).toBe(202)
    const rehashes = 'strata_upload_rehashes_total{service="gateway"}'
    const before = await value(rehashes)
    expect((await finish(location, digestOf(bytes, 'sha512'))).status).toBe(201)
    expect((await value(rehashes)) - before).toBe(1)
    expect(await value('strata_upload_rehashed_bytes_total{service="gateway"}')).toBeGreaterThanOrEqual(2_000)
    expect(await value('strata_uploads_in_progress{service="gateway",kind="push"}')).toBe(0)
  })
})
