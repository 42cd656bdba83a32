import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import type { ImageView } from '@strata/api'
import { busyboxTree, makeArchive, openFixture, TestLayout, type TestDescriptor } from '@strata/archive/testing'
import { digestOf, HOST_PLATFORM, MEDIA } from '@strata/oci'
import { QueueClient, QUEUES } from '@strata/queue'
import { BlobStore } from '@strata/store'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { busyboxLayer, layerOf } from './testing/busybox-image.js'
import { freePort } from '@strata/store/testing'
import { absentOf, startDockerEngine, type DockerEngine } from './testing/peers.js'
import {
  layoutIn,
  RegistryClients,
  whyNoClient,
  type LayoutFolder,
  type RegistryClient,
} from './testing/registry-clients.js'
import { StrataUnderTest, until, type Service } from './testing/strata.js'

/**
 * The field's clients at the registry's listener, over TCP, with the token as their password. The
 * gateway is a process of its own, which can be killed.
 */
const OTHERS: readonly Service[] = ['ingest', 'extractor', 'storage', 'runtime']
let strata: StrataUnderTest
let folder: string
let host: string
let credentials: string
let clients: RegistryClients
/** What clients push: an image, and an index of two. */
let image: Source
let multi: Source
const MEBIBYTE = 1024 * 1024
interface Source extends LayoutFolder {
  readonly folder: string
}
beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/strata-registry-')
  host = `127.0.0.1:${await freePort()}`
  strata = await StrataUnderTest.start({
    environment: { STRATA_PREPARE: 'false', STRATA_LISTEN: host },
    groups: [OTHERS, ['gateway']],
  })
  credentials = `anyone:${(await readFile(strata.tokenFile, 'utf8')).trim()}`
  for (const fixture of ['docker20-odd.tar', 'skopeo-oci-gzip.tar'] as const) await strata.load(openFixture(fixture))
  clients = await RegistryClients.in(join(folder, 'home'), host, credentials)
  image = await sourceOf('image', async (layout) => layout.image('amd64', undefined, gzipSync))
  multi = await sourceOf('multi', async (layout) =>
    layout.index([await layout.image('amd64', undefined, gzipSync), await layout.image('arm64', 'v8', gzipSync)]),
  )
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
/** A layout on disk with one thing, by the name 1. */
async function sourceOf(name: string, make: (layout: TestLayout) => Promise<TestDescriptor>): Promise<Source> {
  const layout = new TestLayout()
  const top = await make(layout)
  const where = join(folder, name)
  await mkdir(where)
  const tar = await layout.tar([{ ...top, annotations: { 'org.opencontainers.image.ref.name': '1' } }])
  execFileSync('tar', ['-x', '-C', where], { input: tar })
  return { folder: where, ...(await layoutIn(where)) }
}
/** Bytes that the gateway's process has read so far, from sockets and files (proc_pid_io(5)). */
async function bytesRead(): Promise<number> {
  return Number(/^rchar: (\d+)/.exec(await readFile(`/proc/${strata.pid('gateway')}/io`, 'utf8'))?.[1])
}
const linesOf = (text: string): string[] => text.split('\n').filter((line) => line !== '')
/** What a pull has written is what was pushed, byte for byte. */
async function expectSame(pulled: string, { digest, blobs }: Source): Promise<void> {
  expect(await layoutIn(pulled)).toEqual({ digest, blobs })
}
/** The digest that Strata itself has for a name. */
const digestIn = async (name: string): Promise<string> =>
  (await strata.request('GET', `/v1/images/${encodeURIComponent(name)}`)).json<ImageView>().digest
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

it('the command line shows what the registry has', async () => {
  const shown = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await strata.cli(args)
    expect([code, stderr], args.join(' ')).toEqual([0, ''])
    return stdout.toString()
  }
  expect((await shown('repos', '-q')).split('\n')).toContain('fx/odd')
  expect(await shown('tags', 'fx/odd')).toMatch(/^REPOSITORY +TAG\nfx\/odd +3\n/)
  expect(digestOf((await strata.cli(['manifest', 'inspect', NAME])).stdout)).toBe((await loaded()).digest)
  expect(await shown('referrers', NAME)).toBe('DIGEST   SIZE   ARTIFACT TYPE\n')
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

/** A test that is skipped, with the reason, where the client is not. */
const withClient = (client: RegistryClient, what: string, test: (run: Client) => Promise<void> | void): void =>
  it(`${client} ${what}`, async (context) => {
    const reason = whyNoClient(client)
    if (reason !== undefined) context.skip(reason)
    await test((...args) => clients.run(client, ...args))
  })
type Client = (...args: string[]) => string

withClient('crane', 'pushes, pulls, copies, tags, lists and deletes; digests are kept', async (crane) => {
  const [app, index, copied] = ['app', 'multi', 'copied'].map((name) => `${host}/crane/${name}`) as [
    string,
    string,
    string,
  ]
  crane('push', image.folder, `${app}:1`)
  crane('push', multi.folder, `${index}:1`)
  expect([crane('digest', `${app}:1`), crane('digest', `${index}:1`)]).toEqual([image.digest, multi.digest])
  expect(await digestIn('crane/app:1')).toBe(image.digest)
  for (const [what, source] of [
    [app, image],
    [index, multi],
  ] as const) {
    const pulled = join(folder, `crane-${source.digest.slice(7, 19)}`)
    crane('pull', '--format=oci', `${what}:1`, pulled)
    await expectSame(pulled, source)
    crane('validate', '--remote', `${what}:1`)
  }
  crane('copy', `${index}:1`, `${copied}:1`)
  crane('tag', `${copied}:1`, '2')
  expect(linesOf(crane('ls', copied))).toEqual(['1', '2'])
  expect(linesOf(crane('catalog', host))).toEqual(expect.arrayContaining(['crane/app', 'crane/copied', 'crane/multi']))
  crane('delete', `${copied}@${multi.digest}`)
  expect(() => crane('digest', `${copied}:2`)).toThrow(/MANIFEST_UNKNOWN|404/)
  expect(crane('digest', `${index}:1`)).toBe(multi.digest)
})

withClient('oras', 'copies layouts, attaches, discovers, lists and deletes; digests are kept', async (oras) => {
  const [app, copied] = [`${host}/oras/app`, `${host}/oras/copied`]
  oras('cp', '--from-oci-layout', '--to-plain-http', `${multi.folder}:1`, `${app}:1`)
  await writeFile(join(clients.home, 'sbom.txt'), 'an attachment')
  const attached = (
    JSON.parse(
      oras(
        'attach',
        '--plain-http',
        '--format',
        'json',
        '--artifact-type',
        'test/sbom',
        `${app}:1`,
        'sbom.txt:text/plain',
      ),
    ) as { digest: string }
  ).digest
  const discovered = (name: string): string => oras('discover', '--plain-http', '--format', 'json', `${name}:1`)
  expect(discovered(app)).toContain(attached)
  // With what is attached: index, manifests, blobs and referrers.
  oras('cp', '-r', '--from-plain-http', '--to-plain-http', `${app}:1`, `${copied}:1`)
  expect(discovered(copied)).toContain(attached)
  const pulled = join(folder, 'oras-pulled')
  oras('cp', '--from-plain-http', '--to-oci-layout', `${copied}:1`, `${pulled}:1`)
  await expectSame(pulled, multi)
  oras('pull', '--plain-http', '-o', join(folder, 'oras-files'), `${copied}@${attached}`)
  expect(await readFile(join(folder, 'oras-files', 'sbom.txt'), 'utf8')).toBe('an attachment')
  oras('tag', '--plain-http', `${copied}:1`, '2', '3')
  expect(linesOf(oras('repo', 'tags', '--plain-http', copied))).toEqual(['1', '2', '3'])
  expect(linesOf(oras('repo', 'ls', '--plain-http', host))).toEqual(expect.arrayContaining(['oras/app', 'oras/copied']))
  oras('manifest', 'delete', '--plain-http', '-f', `${copied}@${attached}`)
  expect(discovered(copied)).not.toContain(attached)
  oras('manifest', 'delete', '--plain-http', '-f', `${copied}:1`)
  expect(linesOf(oras('repo', 'tags', '--plain-http', copied))).toEqual([])
  expect(discovered(app)).toContain(attached)
})

withClient('regctl', 'copies layouts, attaches, lists and deletes; digests are kept', async (client) => {
  const [user, pass] = credentials.split(':') as [string, string]
  const regctl = (...args: string[]): string =>
    client('--host', `reg=${host},user=${user},pass=${pass},tls=disabled`, ...args)
  const [app, copied] = [`${host}/regctl/app`, `${host}/regctl/copied`]
  regctl('image', 'copy', `ocidir://${multi.folder}:1`, `${app}:1`)
  expect(regctl('image', 'digest', `${app}:1`)).toBe(multi.digest)
  await writeFile(join(clients.home, 'note.txt'), 'a note')
  regctl('artifact', 'put', '--artifact-type', 'test/note', '--subject', `${app}:1`, '-f', 'note.txt')
  regctl('image', 'copy', '--referrers', `${app}:1`, `${copied}:1`)
  expect(regctl('artifact', 'list', '--format', '{{range .Descriptors}}{{.ArtifactType}}{{end}}', `${copied}:1`)).toBe(
    'test/note',
  )
  expect(regctl('artifact', 'get', '--subject', `${copied}:1`)).toBe('a note')
  const pulled = join(folder, 'regctl-pulled')
  regctl('image', 'copy', `${copied}:1`, `ocidir://${pulled}:1`)
  await expectSame(pulled, multi)
  regctl('image', 'copy', `${copied}:1`, `${copied}:2`)
  expect(linesOf(regctl('tag', 'ls', copied))).toEqual(['1', '2'])
  expect(linesOf(regctl('repo', 'ls', host))).toEqual(expect.arrayContaining(['regctl/app', 'regctl/copied']))
  regctl('tag', 'rm', `${copied}:1`)
  expect(linesOf(regctl('tag', 'ls', copied))).toEqual(['2'])
  regctl('manifest', 'rm', `${copied}@${multi.digest}`)
  expect(() => regctl('image', 'digest', `${copied}:2`)).toThrow(/not found/i)
})

/** These two take minutes and gigabytes to build (docs/registry.md, "Clients"). */
if (process.env['STRATA_TEST_CLIENTS'] === '1') {
  withClient('helm', 'pushes a chart and pulls it again', async (helm) => {
    helm('create', 'chart')
    helm('package', 'chart')
    helm('push', '--plain-http', 'chart-0.1.0.tgz', `oci://${host}/helm`)
    helm('pull', '--plain-http', '-d', folder, `oci://${host}/helm/chart`, '--version', '0.1.0')
    const [pushed, pulled] = [clients.home, folder].map((where) => readFile(join(where, 'chart-0.1.0.tgz')))
    expect(digestOf((await pulled)!)).toBe(digestOf((await pushed)!))
    expect(helm('show', 'chart', '--plain-http', `oci://${host}/helm/chart`, '--version', '0.1.0')).toContain(
      'name: chart',
    )
  })

  withClient('cosign', 'signs an image with a key, and verifies it', (cosign) => {
    const name = `${host}/cosign/app`
    run(
      'skopeo',
      '--insecure-policy',
      'copy',
      '-q',
      '--dest-tls-verify=false',
      '--dest-creds',
      credentials,
      '--preserve-digests',
      `oci:${image.folder}:1`,
      `docker://${name}:1`,
    )
    const subject = `${name}@${image.digest}`
    cosign('generate-key-pair')
    cosign(
      'sign',
      '-y',
      '--key',
      'cosign.key',
      '--use-signing-config=false',
      '--tlog-upload=false',
      '--allow-http-registry',
      subject,
    )
    const verified = cosign('verify', '--key', 'cosign.pub', '--insecure-ignore-tlog', '--allow-http-registry', subject)
    expect(verified).toContain(image.digest)
    expect(cosign('tree', '--allow-http-registry', subject)).toContain(image.digest)
  })
}

it('skopeo copies an index with all its images, lists and deletes; digests are kept', async (context) => {
  const absent = absentOf(['skopeo'])
  if (absent.length > 0) context.skip(`it needs ${absent.join(', ')}`)
  const skopeo = (command: string, ...args: string[]): string => run('skopeo', '--insecure-policy', command, ...args)
  const [to, from] = [
    ['--dest-tls-verify=false', '--dest-creds', credentials],
    ['--src-tls-verify=false', '--src-creds', credentials],
  ]
  const copy = (...args: string[]): string =>
    skopeo('copy', '-q', '--all', '--preserve-digests', '--tmpdir', folder, ...args)
  copy(...to, `oci:${multi.folder}:1`, `docker://${host}/skopeo/multi:1`)
  copy(...from, ...to, `docker://${host}/skopeo/multi:1`, `docker://${host}/skopeo/copied:1`)
  const pulled = join(folder, 'skopeo-pulled')
  copy(...from, `docker://${host}/skopeo/copied:1`, `oci:${pulled}:1`)
  await expectSame(pulled, multi)
  skopeo('delete', '--tls-verify=false', '--creds', credentials, `docker://${host}/skopeo/copied:1`)
  expect(() =>
    skopeo('inspect', '--tls-verify=false', '--creds', credentials, `docker://${host}/skopeo/copied:1`),
  ).toThrow(/manifest unknown|not found|404/i)
})

describe('docker', () => {
  const absent = absentOf(['/usr/sbin/dockerd', '/usr/bin/docker'])
  let engine: DockerEngine
  beforeAll(async () => {
    if (absent.length > 0) return
    const own = join(folder, 'docker')
    await mkdir(own)
    engine = await startDockerEngine(own)
    const [user, password] = credentials.split(':') as [string, string]
    engine.docker('login', '-u', user, '-p', password, host)
  })
  afterAll(async () => {
    if (absent.length === 0) await engine.stop()
  })
  /** An image of one file, by its name in this registry. */
  const imported = async (name: string, content: Buffer): Promise<string> => {
    const tar = join(folder, 'tree.tar')
    await writeFile(tar, await layerOf({ file: { content } }))
    engine.docker('import', tar, `${host}/${name}`)
    await rm(tar)
    return `${host}/${name}`
  }
  const digestSaid = (output: string): string => /sha256:[0-9a-f]{64}/.exec(output)?.[0] ?? output

  it('pushes, mounts, makes an index and pulls; digests are kept', async (context) => {
    if (absent.length > 0) context.skip(`it needs ${absent.join(', ')}`)
    const { docker } = engine
    const app = await imported('docker/app:1', Buffer.from('of docker'))
    const pushed = digestSaid(docker('push', app))
    expect(await digestIn('docker/app:1')).toBe(pushed)
    const other = `${host}/docker/other:1`
    docker('tag', app, other)
    expect(docker('push', other)).toContain('Mounted from docker/app')
    const index = `${host}/docker/app:index`
    docker('manifest', 'create', '--insecure', index, app)
    const digest = digestSaid(docker('manifest', 'push', '--insecure', index))
    expect(await digestIn('docker/app:index')).toBe(digest)
    const id = docker('image', 'inspect', '-f', '{{.Id}}', app)
    docker('rmi', '-f', app, other)
    docker('pull', '-q', index)
    docker('pull', '-q', other)
    expect([index, other].map((name) => docker('image', 'inspect', '-f', '{{.Id}}', name))).toEqual([id, id])
    expect(docker('image', 'inspect', '-f', '{{.RepoDigests}}', other)).toContain(`/docker/other@${pushed}`)
  })

  it('pushes on behind a gateway that is killed in the middle and started again', async (context) => {
    if (absent.length > 0) context.skip(`it needs ${absent.join(', ')}`)
    const size = Number(process.env['STRATA_TEST_PUSH_MIB'] ?? 96) * MEBIBYTE
    const name = await imported('docker/large:1', randomBytes(size))
    const before = await bytesRead()
    const push = spawn(...engine.command('push', name), { stdio: ['ignore', 'pipe', 'pipe'] })
    const output = Promise.all([text(push.stdout), text(push.stderr)])
    const ended = once(push, 'exit')
    // Docker sends a layer in one request: no record says yet how much of it has come.
    await until(async () => (await bytesRead()) - before > size / 4, 'a quarter of the layer is here')
    await strata.stop('SIGKILL', 'gateway')
    await strata.startGroup(['gateway'])
    await ended
    const [said, errors] = await output
    expect([push.exitCode, errors]).toEqual([0, ''])
    expect(engine.log()).toContain('Upload failed, retrying')
    expect(await digestIn('docker/large:1')).toBe(digestSaid(said))
    engine.docker('rmi', '-f', name)
    engine.docker('pull', '-q', name)
  })

  it('waits for room where the gateway takes no more bodies', async (context) => {
    if (absent.length > 0) context.skip(`it needs ${absent.join(', ')}`)
    const name = await imported('docker/small:1', randomBytes(1_000))
    await strata.stop('SIGTERM', 'gateway')
    await strata.startGroup(['gateway'], false, { environment: { STRATA_MAX_PUSHES: '1' } })
    await strata.ready()
    const location = String((await strata.request('POST', '/v2/pushed/slow/blobs/uploads/')).headers.location)
    const leave = new AbortController()
    const { promise: isTaken, resolve: taken } = Promise.withResolvers<undefined>()
    async function* slow() {
      yield randomBytes(1_000_000)
      taken(undefined)
      await new Promise(() => undefined)
    }
    const body = strata
      .request('PATCH', location, Readable.from(slow()), { signal: leave.signal })
      .catch(() => undefined)
    await isTaken
    const refusals = (): number => engine.log().split('503 Service Unavailable').length
    const before = refusals()
    const push = spawn(...engine.command('push', '-q', name), { stdio: ['ignore', 'ignore', 'pipe'] })
    const errors = text(push.stderr)
    const ended = once(push, 'exit')
    await until(() => refusals() > before || push.exitCode !== null, 'docker was refused')
    leave.abort()
    await body
    await ended
    expect([push.exitCode, await errors]).toEqual([0, ''])
    expect(refusals()).toBeGreaterThan(before)
  })
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

it('an image whose layer is not here says which one it lacks, and works once that is pushed', async () => {
  const name = 'elsewhere/app:1'
  const put = async (bytes: Buffer) => {
    const where = `/v2/elsewhere/app/blobs/uploads/?digest=${digestOf(bytes)}`
    expect((await strata.request('POST', where, Readable.from([bytes]))).status).toBe(201)
  }
  const describe = (bytes: Buffer, mediaType: string) => ({ mediaType, digest: digestOf(bytes), size: bytes.length })
  // No other image may have it: a node that has it needs no blob.
  const layer = await layerOf({ ...Object.fromEntries(busyboxTree()), elsewhere: { content: 'only here' } })
  const { architecture } = HOST_PLATFORM
  const rootfs = { type: 'layers', diff_ids: [digestOf(layer)] }
  const config = Buffer.from(JSON.stringify({ architecture, os: 'linux', rootfs, config: { Env: ['PATH=/bin'] } }))
  const manifestOf = (mediaType: string) =>
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      config: describe(config, MEDIA.config),
      layers: [describe(layer, mediaType)],
    })
  const putManifest = (mediaType: string) =>
    strata.request('PUT', '/v2/elsewhere/app/manifests/1', Readable.from([manifestOf(mediaType)]), {
      headers: { 'content-type': MEDIA.manifest },
    })
  await put(config)
  const refused = await putManifest(MEDIA.layer)
  expect([refused.status, refused.json()]).toMatchObject([400, { errors: [{ code: 'MANIFEST_BLOB_UNKNOWN' }] }])
  const taken = await putManifest('application/vnd.oci.image.layer.nondistributable.v1.tar')
  expect([taken.status, taken.bytes.toString()]).toEqual([201, ''])

  const view = async () => (await strata.request('GET', `/v1/images/${encodeURIComponent(name)}`)).json<ImageView>()
  expect((await view()).layers).toMatchObject([{ digest: digestOf(layer), missing: true }])
  const asked: [string, string, unknown?][] = [
    ['POST', '/v1/containers', { image: name, command: ['true'] }],
    ['POST', `/v1/images/${encodeURIComponent(name)}/mount`],
    ['GET', `/v1/images/${encodeURIComponent(name)}/files?path=/`],
    ['GET', `/v1/archive?image=${encodeURIComponent(name)}`],
  ]
  for (const [method, path, body] of asked) {
    const answer = await strata.request(method, path, body)
    expect([path, answer.status, answer.json()]).toMatchObject([
      path,
      400,
      { code: 'layer_missing', detail: expect.stringContaining(digestOf(layer)) as string },
    ])
  }
  for (const { id } of await strata.containers()) await strata.request('DELETE', `/v1/containers/${id}`)
  expect((await strata.request('POST', '/v1/gc')).json()).toMatchObject({ unreadable: { count: 0 } })

  await put(layer)
  expect((await view()).layers[0]).not.toHaveProperty('missing')
  const launched = await strata.cli(['run', '--rm', name, '/bin/busybox', 'echo', 'here'])
  expect([launched.code, launched.stdout.toString(), launched.stderr]).toEqual([0, 'here\n', ''])
  expect((await strata.request('GET', `/v1/archive?image=${encodeURIComponent(name)}`)).status).toBe(200)
})

interface Part {
  readonly digest: string
}
