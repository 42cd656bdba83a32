import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import type { ImageView } from '@strata/api'
import { makeArchive, openFixture } from '@strata/archive/testing'
import { digestOf } from '@strata/oci'
import { BlobStore } from '@strata/store'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { busyboxLayer } from './testing/busybox-image.js'
import { freePort } from './testing/free-port.js'
import { absentOf } from './testing/peers.js'
import { StrataUnderTest } from './testing/strata.js'

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
