import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import type { ImageView } from '@strata/api'
import { makeArchive, openFixture } from '@strata/archive/testing'
import { digestOf, HOST_PLATFORM, MEDIA } from '@strata/oci'
import { QueueClient, QUEUES } from '@strata/queue'
import { BlobStore } from '@strata/store'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { busyboxLayer, layerOf } from './testing/busybox-image.js'
import { freePort } from './testing/free-port.js'
import { absentOf } from './testing/peers.js'
import { StrataUnderTest, until } from './testing/strata.js'

/** The field's clients at the registry's door, over TCP, with the token as their password. */
let strata: StrataUnderTest
let folder: string
let host: string
let credentials: string
beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/strata-registry-')
  host = `127.0.0.1:${await freePort()}`
  strata = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false', STRATA_LISTEN: host } })
  credentials = `anyone:${(await readFile(strata.tokenFile, 'utf8')).trim()}`
  for (const fixture of ['docker20-odd.tar', 'skopeo-oci-gzip.tar'] as const) await strata.load(openFixture(fixture))
})
afterAll(async () => {
  await strata.dispose()
  await rm(folder, { recursive: true, force: true })
})

const NAME = 'fx/odd:3'
const run = (command: string, ...args: string[]): string =>
  execFileSync(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    env: { ...process.env, TMPDIR: folder },
  })
const loaded = async () => (await strata.request('GET', `/v1/images/${encodeURIComponent(NAME)}`)).json<ImageView>()

// Before any other push: it counts jobs.
it('a pushed layer is extracted behind the push: whoever browses and launches starts no job for it', async () => {
  const [name, repository] = ['behind/app:1', '/v2/behind/app']
  const tars = [await busyboxLayer(), await layerOf({ 'only-here': { content: 'pushed' } })]
  const push = async (bytes: Buffer, mediaType: string) => {
    const part = { mediaType, digest: digestOf(bytes), size: bytes.length }
    const where = `${repository}/blobs/uploads/?digest=${part.digest}`
    expect((await strata.request('POST', where, Readable.from([bytes]))).status).toBe(201)
    return part
  }
  const layers = []
  for (const tar of tars) layers.push(await push(gzipSync(tar, { level: 2 }), MEDIA.layerGzip))
  const rootfs = { type: 'layers', diff_ids: tars.map((tar) => digestOf(tar)) }
  const config = Buffer.from(JSON.stringify({ architecture: HOST_PLATFORM.architecture, os: 'linux', rootfs }))
  const manifest = { schemaVersion: 2, mediaType: MEDIA.manifest, config: await push(config, MEDIA.config), layers }
  const queue = await QueueClient.forRequests(`unix://${strata.redisSocket}`)
  const redis = new Redis({ path: strata.redisSocket })
  try {
    // How many jobs of a queue there ever were (BullMQ counts them).
    const added = async (of: string): Promise<number> => Number(await redis.get(`strata-q:${of}:id`))
    const queues = [QUEUES.extract, QUEUES.extractOn(strata.node.id)] as const
    const [before, ownBefore] = [await added(queues[0]), await added(queues[1])]
    const put = await strata.request('PUT', `${repository}/manifests/1`, Readable.from([JSON.stringify(manifest)]), {
      headers: { 'content-type': MEDIA.manifest },
    })
    expect(put.status).toBe(201)
    await until(
      async () => (await added(queues[0])) === before + 2 && (await queue.producer.unfinished(queues[0])) === 0,
      'both layers are extracted',
    )
    const files = await strata.request('GET', `/v1/images/${encodeURIComponent(name)}/files?path=/only-here`)
    expect(files.status).toBe(200)
    const launched = await strata.cli(['run', '--rm', name, '/bin/busybox', 'cat', '/only-here'])
    expect([launched.code, launched.stdout.toString(), launched.stderr]).toEqual([0, 'pushed', ''])
    expect([await added(queues[0]), await added(queues[1])]).toEqual([before + 2, ownBefore])
  } finally {
    redis.disconnect()
    await queue.close()
  }
})

it('skopeo pulls what was loaded, manifest and layers as they are, and lists its tags', async (context) => {
  const absent = absentOf(['skopeo'])
  if (absent.length > 0) context.skip(`it needs ${absent.join(', ')}`)
  const image = await loaded()
  const skopeo = (command: string, ...args: string[]): string => run('skopeo', '--insecure-policy', command, ...args)
  const copy = join(folder, 'copy')
  skopeo('copy', '-q', '--src-tls-verify=false', '--src-creds', credentials, `docker://${host}/${NAME}`, `dir:${copy}`)
  const manifest = await readFile(join(copy, 'manifest.json'))
  expect(digestOf(manifest)).toBe(image.digest)
  const { config, layers } = JSON.parse(manifest.toString()) as { config: Part; layers: Part[] }
  for (const { digest } of [config, ...layers])
    expect(digestOf(await readFile(join(copy, digest.replace('sha256:', ''))))).toBe(digest)
  const tags = JSON.parse(
    skopeo('list-tags', '--tls-verify=false', '--creds', credentials, `docker://${host}/fx/odd`),
  ) as { Tags: string[] }
  expect(tags.Tags).toContain('3')
  const refused = spawnSync('skopeo', [
    'inspect',
    '--tls-verify=false',
    '--creds',
    'anyone:wrong',
    `docker://${host}/${NAME}`,
  ])
  expect([refused.status, String(refused.stderr)]).toEqual([1, expect.stringContaining('unauthorized') as string])
})

it('podman logs in, and pulls the same image', async (context) => {
  const absent = absentOf(['podman'])
  if (absent.length > 0) context.skip(`it needs ${absent.join(', ')}`)
  const { id } = await loaded()
  const [user, password] = credentials.split(':') as [string, string]
  const own = ['--root', join(folder, 'root'), '--runroot', join(folder, 'run'), '--storage-driver', 'vfs']
  const file = ['--authfile', join(folder, 'auth.json')]
  const podman = (...args: string[]): string => run('podman', ...own, ...args)
  podman('login', ...file, '--tls-verify=false', '-u', user, '-p', password, host)
  podman('pull', '-q', ...file, '--tls-verify=false', `${host}/${NAME}`)
  expect(podman('image', 'inspect', '--format', '{{.Id}}', `${host}/${NAME}`).trim()).toBe(id.replace('sha256:', ''))
  podman('rmi', '-f', `${host}/${NAME}`)
})

it('skopeo pushes an image, digests kept, and it can be launched', async (context) => {
  const absent = absentOf(['skopeo'])
  if (absent.length > 0) context.skip(`it needs ${absent.join(', ')}`)
  const archive = join(folder, 'busybox.tar')
  await writeFile(
    archive,
    await makeArchive({ names: ['pushed/app:1'], layers: [await busyboxLayer()], config: { Env: ['PATH=/bin'] } }),
  )
  const copy = (...args: string[]): string =>
    run('skopeo', '--insecure-policy', 'copy', '-q', '--tmpdir', folder, ...args)
  copy(`docker-archive:${archive}`, `oci:${join(folder, 'layout')}:1`)
  for (const name of ['pushed/app:1', 'pushed/again:1'])
    copy(
      '--dest-tls-verify=false',
      '--dest-creds',
      credentials,
      '--preserve-digests',
      `oci:${join(folder, 'layout')}:1`,
      `docker://${host}/${name}`,
    )
  const { manifests } = JSON.parse(await readFile(join(folder, 'layout', 'index.json'), 'utf8')) as {
    manifests: Part[]
  }
  const image = (await strata.request('GET', `/v1/images/${encodeURIComponent('pushed/app:1')}`)).json<ImageView>()
  expect(image.digest).toBe(manifests[0]!.digest)
  expect(image.names).toEqual(['pushed/again:1', 'pushed/app:1'])
  const launched = await strata.cli(['run', '--rm', 'pushed/app:1', '/bin/busybox', 'echo', 'pushed'])
  expect([launched.code, launched.stdout.toString(), launched.stderr]).toEqual([0, 'pushed\n', ''])
  const blobs = new BlobStore(await strata.store())
  for (const { digest } of image.layers) expect(await blobs.stat(digest)).toBeDefined()
})

it('podman pushes what it pulled', async (context) => {
  const absent = absentOf(['podman'])
  if (absent.length > 0) context.skip(`it needs ${absent.join(', ')}`)
  const own = ['--root', join(folder, 'root'), '--runroot', join(folder, 'run'), '--storage-driver', 'vfs']
  const file = ['--authfile', join(folder, 'auth.json')]
  const podman = (...args: string[]): string => run('podman', ...own, ...args)
  podman('pull', '-q', ...file, '--tls-verify=false', `${host}/${NAME}`)
  podman('tag', `${host}/${NAME}`, `${host}/pushed/odd:4`)
  podman('push', '-q', ...file, '--tls-verify=false', `${host}/pushed/odd:4`)
  const image = (await strata.request('GET', `/v1/images/${encodeURIComponent('pushed/odd:4')}`)).json<ImageView>()
  expect(image.id).toBe((await loaded()).id)
  podman('rmi', '-f', '-a')
})

it('a gateway that is killed in the middle of an upload is no end of it', async () => {
  const bytes = randomBytes(3_000_000)
  const ask = (method: string, path: string, body?: Readable, headers = {}) =>
    strata.request(method, path, body, { headers })
  const location = String((await ask('POST', '/v2/pushed/killed/blobs/uploads/')).headers.location)
  const first = await ask('PATCH', location, Readable.from([bytes.subarray(0, 1_000_000)]))
  expect([first.status, first.headers.range]).toEqual([202, '0-999999'])
  // A chunk that is not whole when the gateway dies.
  const { promise: isSent, resolve: sent } = Promise.withResolvers<undefined>()
  async function* endless() {
    yield bytes.subarray(1_000_000, 2_000_000)
    sent(undefined)
    await new Promise(() => undefined)
  }
  const broken = ask('PATCH', location, Readable.from(endless())).catch(() => undefined)
  await isSent
  await strata.stop('SIGKILL')
  await broken
  await strata.startProcesses()
  const status = await ask('GET', location)
  expect([status.status, status.headers.range]).toEqual([204, '0-999999'])
  const rest = await ask('PATCH', location, Readable.from([bytes.subarray(1_000_000)]), {
    'content-range': '1000000-2999999',
  })
  expect([rest.status, rest.headers.range]).toEqual([202, '0-2999999'])
  expect((await ask('PUT', `${location}?digest=${digestOf(bytes)}`)).status).toBe(201)
  const pulled = await ask('GET', `/v2/pushed/killed/blobs/${digestOf(bytes)}`)
  expect(digestOf(pulled.bytes)).toBe(digestOf(bytes))
})

interface Part {
  readonly digest: string
}
