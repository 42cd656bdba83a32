import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { ServerResponse } from 'node:http'
import { gzipSync } from 'node:zlib'
import type { ImageView, JobView, LoadResult } from '@strata/api'
import { digestFromHex, digestOf, HOST_PLATFORM, MEDIA } from '@strata/oci'
import { BlobStore, keys, Leases, listAll, piecesOf, PREFIX } from '@strata/store'
import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { busyboxLayer, layerOf } from './testing/busybox-image.js'
import { DebianRegistry, RegistryFiller, whyNoDebianRegistry, type Part } from './testing/debian-registry.js'
import { freePort } from '@strata/store/testing'
import { StrataUnderTest, until, type Service } from './testing/strata.js'
import { WatchedRegistry } from './testing/watched-registry.js'

/** Pulls from Debian's registry, with a proxy between that notes what is asked for. */
const OTHERS: readonly Service[] = ['gateway', 'extractor', 'storage', 'runtime']
const MIB = 1024 * 1024
const USER = 'somebody:the-password-of-nobody-else'

let strata: StrataUnderTest
let folder: string
let debian: DebianRegistry
let locked: DebianRegistry
let registry: WatchedRegistry
let ofLocked: WatchedRegistry

beforeAll(async () => {
  const why = whyNoDebianRegistry()
  if (why !== undefined) throw new Error(why)
  folder = await mkdtemp('/var/tmp/strata-pull-')
  strata = await StrataUnderTest.start({
    environment: { STRATA_PREPARE: 'false', STRATA_LOG_LEVEL: 'debug' },
    groups: [OTHERS, ['ingest']],
  })
  debian = await DebianRegistry.start(join(folder, 'debian'))
  locked = await DebianRegistry.start(join(folder, 'locked'), USER)
  registry = await WatchedRegistry.before(debian.host)
  ofLocked = await WatchedRegistry.before(locked.host)
})
afterAll(async () => {
  await registry.stop()
  await ofLocked.stop()
  await debian.stop()
  await locked.stop()
  await strata.dispose()
  await rm(folder, { recursive: true, force: true })
})
afterEach(() => {
  for (const one of [registry, ofLocked]) {
    one.forget()
    one.instead = () => false
    one.stopAfter = Infinity
  }
})

interface Filled extends Part {
  readonly layers: readonly Part[]
  readonly config: Part
}
/** An image of these tars, gzipped unless `pack` does something else. */
async function fill(
  repository: string,
  tars: readonly Buffer[],
  {
    tag,
    platform = HOST_PLATFORM,
    pack = (tar: Buffer) => gzipSync(tar, { level: 1 }),
    into = debian,
    docker = false,
  }: {
    tag?: string
    platform?: { os: string; architecture: string; variant?: string }
    pack?: (tar: Buffer) => Buffer
    into?: Pick<DebianRegistry, 'fill'>
    docker?: boolean
  } = {},
): Promise<Filled> {
  const layers: Part[] = []
  const type = docker ? 'application/vnd.docker.image.rootfs.diff.tar.gzip' : MEDIA.layerGzip
  for (const tar of tars) layers.push(await into.fill.blob(repository, pack(tar), type))
  const rootfs = { type: 'layers', diff_ids: tars.map((tar) => digestOf(tar)) }
  const config = await into.fill.blob(
    repository,
    Buffer.from(JSON.stringify({ ...platform, config: { Env: ['PATH=/bin'] }, rootfs })),
    docker ? 'application/vnd.docker.container.image.v1+json' : MEDIA.config,
  )
  const mediaType = docker ? MEDIA.dockerManifest : MEDIA.manifest
  const manifest = await into.fill.manifest(repository, { schemaVersion: 2, mediaType, config, layers } as never, tag)
  return { ...manifest, layers, config }
}

const authHeader = (value: object): Record<string, string> => ({
  'x-registry-auth': Buffer.from(JSON.stringify(value)).toString('base64url'),
})
async function pull(name: string, query = '', headers: Record<string, string> = {}) {
  const answer = await strata.request('POST', `/v1/images?pull=${encodeURIComponent(name)}${query}`, undefined, {
    headers,
  })
  return {
    status: answer.status,
    location: answer.headers.location,
    body: answer.json<LoadResult & { code?: string; detail?: string }>(),
  }
}
const freeAddress = async (): Promise<string> => `127.0.0.1:${await freePort()}`
const job = async (id: string): Promise<JobView> => (await strata.request('GET', `/v1/jobs/${id}`)).json<JobView>()
const imageOf = async (name: string) => {
  const answer = await strata.request('GET', `/v1/images/${encodeURIComponent(name)}`)
  return answer.status === 200 ? answer.json<ImageView>() : undefined
}
/** Bytes in the store that no blob has, and no list of what an upload brought. */
async function dataLeft(): Promise<string[]> {
  const store = await strata.store()
  const used = new Set<string>()
  for await (const { key } of listAll(store, PREFIX.blobs)) {
    const record = await new BlobStore(store).stat(digestFromHex(key.split('/').at(-1)!))
    for (const { data } of record ? piecesOf(record) : []) used.add(data)
  }
  const left: string[] = []
  for await (const { key } of listAll(store, 'data/')) if (!used.has(key)) left.push(key)
  return left
}
/** The leases of pulls and of uploads that are there. */
async function leasesLeft(): Promise<string[]> {
  const found: string[] = []
  const store = await strata.store()
  for await (const { id, job } of new Leases(store).listLive({ onDamaged: () => undefined }))
    if (job.kind === 'pull' || job.kind === 'push') found.push(`${job.kind} ${id}`)
  return found
}

describe('a pull brings', () => {
  it.each([
    ['oci', false],
    ['docker', true],
  ])('an image by its tag, of the types of %s, which runs', async (name, docker) => {
    const own = await layerOf({ [`only-${name}`]: { content: name } })
    const image = await fill(`fx/${name}`, [await busyboxLayer(), own], { tag: '1', docker })
    const ref = `${registry.host}/fx/${name}:1`
    const { status, location, body } = await pull(ref)
    expect(body, JSON.stringify(body)).toMatchObject({
      images: [{ id: image.config.digest, digest: image.digest, names: [ref], layers: 2 }],
      pulled: { name: ref, digest: image.digest, mediaType: image.mediaType, changed: true },
    })
    expect(status).toBe(201)
    expect(await imageOf(ref)).toMatchObject({ digest: image.digest, names: [ref], mediaType: image.mediaType })
    const record = await job(location?.split('/').at(-1) ?? '')
    const total = [image.config, ...image.layers].reduce((sum, { size }) => sum + size, 0)
    expect(record).toMatchObject({ kind: 'pull', state: 'completed', bytes: total, total })
    expect(record.layers?.map(({ size }) => size)).toEqual(
      [image.config, ...image.layers].map(({ size }) => size).sort((one, other) => other - one),
    )
    const ran = await strata.cli(['run', '--rm', ref, 'cat', `/only-${name}`])
    expect([ran.code, ran.stdout.toString(), ran.stderr]).toEqual([0, name, ''])
    expect(await leasesLeft()).toEqual([])
  })

  it('no blob that is here: a second pull fetches none, another image only what is new', async () => {
    const base = await busyboxLayer()
    const image = await fill('fx/again', [base, await layerOf({ one: { content: 'again' } })], { tag: '1' })
    const ref = `${registry.host}/fx/again`
    expect((await pull(`${ref}:1`)).body.pulled).toMatchObject({ changed: true })
    registry.forget()
    const again = await pull(`${ref}:1`)
    expect(again.body.pulled).toMatchObject({
      changed: false,
      digest: image.digest,
      blobs: { new: { count: 0, bytes: 0 }, known: { count: 3 } },
    })
    expect(registry.blobs).toEqual([])
    const own = await layerOf({ two: { content: 'again' } })
    const next = await fill('fx/again', [base, own], { tag: '2' })
    const { bytes, ...tally } = (await pull(`${ref}:2`)).body.pulled!.blobs.new
    expect(tally).toEqual({ count: 2 })
    expect(bytes).toBe(next.config.size + next.layers[1]!.size)
    expect(registry.blobs.map((line) => line.split(' ')[1]).sort()).toEqual(
      [next.config, next.layers[1]!].map(({ digest }) => `/v2/fx/again/blobs/${digest}`).sort(),
    )
  })

  it('an image by its digest, without a tag', async () => {
    const image = await fill('fx/digest', [await layerOf({ by: { content: 'digest' } })])
    const ref = `${registry.host}/fx/digest@${image.digest}`
    const { status, body } = await pull(ref)
    expect({ status, ...body.images[0] }).toMatchObject({ status: 201, digest: image.digest, names: [], layers: 1 })
    expect(body.pulled).toMatchObject({ name: ref, changed: true })
    expect(await imageOf(ref)).toMatchObject({ digest: image.digest, names: [] })
    expect((await pull(ref)).body.pulled).toMatchObject({ changed: false })
    const removed = await strata.request('DELETE', `/v1/images/${encodeURIComponent(ref)}`)
    expect(removed.status, removed.bytes.toString()).toBe(200)
  })

  describe('an index', () => {
    const OTHER = { os: 'linux', architecture: 's390x' }
    let index: Part
    let mine: Filled
    let other: Filled
    let attached: Part
    const ref = (tag: string) => `${registry.host}/fx/index:${tag}`
    beforeAll(async () => {
      mine = await fill('fx/index', [await layerOf({ of: { content: 'mine' } })])
      other = await fill('fx/index', [await layerOf({ of: { content: 'another' } })], { platform: OTHER })
      const config = await debian.fill.blob('fx/index', Buffer.from('{}'), 'application/vnd.oci.empty.v1+json')
      const statement = await debian.fill.blob('fx/index', Buffer.from('a statement'), 'application/vnd.in-toto+json')
      attached = await debian.fill.manifest('fx/index', {
        schemaVersion: 2,
        mediaType: MEDIA.manifest,
        config,
        layers: [statement],
      } as never)
      const document = {
        schemaVersion: 2,
        mediaType: MEDIA.index,
        manifests: [
          { mediaType: mine.mediaType, digest: mine.digest, size: mine.size, platform: HOST_PLATFORM },
          { mediaType: other.mediaType, digest: other.digest, size: other.size, platform: OTHER },
          { ...attached, platform: { os: 'unknown', architecture: 'unknown' } },
        ],
      }
      for (const tag of ['one', 'other', 'all', 'none']) index = await debian.fill.manifest('fx/index', document, tag)
    })

    it('has the platform of this machine, and keeps its digest', async () => {
      const { body } = await pull(ref('one'))
      expect(body.images).toMatchObject([{ id: mine.config.digest, digest: index.digest, names: [ref('one')] }])
      expect(body.pulled).toMatchObject({ digest: index.digest, mediaType: MEDIA.index })
      expect(registry.blobs.some((line) => line.includes(other.layers[0]!.digest))).toBe(false)
      const image = await imageOf(ref('one'))
      expect(image).toMatchObject({ digest: index.digest, id: mine.config.digest })
      expect(image?.platforms).toEqual([`linux/${HOST_PLATFORM.architecture}`])
    })

    it('has the platform that is asked for', async () => {
      const { body } = await pull(ref('other'), '&platform=linux/s390x')
      expect(body.images).toMatchObject([{ id: other.config.digest, digest: index.digest }])
      const image = await strata.request('GET', `/v1/images/${encodeURIComponent(ref('other'))}?platform=linux/s390x`)
      expect(image.json<ImageView>()).toMatchObject({
        architecture: 's390x',
        layers: [{ digest: other.layers[0]!.digest }],
      })
    })

    it('has all, with what is attached', async () => {
      const { body } = await pull(ref('all'), '&platform=all')
      expect(body.images).toMatchObject([{ id: mine.config.digest, digest: index.digest }])
      expect(body.images[0]?.platforms?.sort()).toEqual([`linux/${HOST_PLATFORM.architecture}`, 'linux/s390x'].sort())
      for (const { digest } of [mine, other, attached, index]) {
        const found = await strata.request(
          'GET',
          `/v1/manifests/${encodeURIComponent(`${registry.host}/fx/index@${digest}`)}`,
        )
        expect(digestOf(found.bytes)).toBe(digest)
      }
    })

    it('has not a platform that it does not name: it says which it has', async () => {
      const { status, body } = await pull(ref('none'), '&platform=windows/amd64')
      expect({ status, code: body.code }).toEqual({ status: 415, code: 'unsupported' })
      expect(body.detail).toContain('linux/s390x')
      expect(await imageOf(ref('none'))).toBeUndefined()
      expect(await leasesLeft()).toEqual([])
    })

    it('leaves no image when its tags have gone', async () => {
      const before = (await strata.images()).length
      for (const tag of ['one', 'other', 'all']) {
        const answer = await strata.request('DELETE', `/v1/images/${encodeURIComponent(ref(tag))}`)
        expect(answer.status, answer.bytes.toString()).toBe(200)
      }
      const left = await strata.images()
      expect(left.filter(({ digest }) => [mine.digest, other.digest, index.digest].includes(digest as never))).toEqual(
        [],
      )
      expect(left.length).toBeLessThan(before)
    })
  })

  it('an artifact as it is, which is no image', async () => {
    const config = await debian.fill.blob(
      'fx/chart',
      Buffer.from('{"name":"chart"}'),
      'application/vnd.cncf.helm.config.v1+json',
    )
    const layer = await debian.fill.blob(
      'fx/chart',
      randomBytes(1000),
      'application/vnd.cncf.helm.chart.content.v1.tar+gzip',
    )
    const chart = await debian.fill.manifest(
      'fx/chart',
      { schemaVersion: 2, mediaType: MEDIA.manifest, config, layers: [layer] } as never,
      '1',
    )
    const ref = `${registry.host}/fx/chart:1`
    expect((await pull(ref)).body).toMatchObject({ images: [], pulled: { digest: chart.digest, changed: true } })
    const found = await strata.request('GET', `/v1/manifests/${encodeURIComponent(ref)}`)
    expect(digestOf(found.bytes)).toBe(chart.digest)
    expect((await strata.request('GET', `/v2/${registry.host}/fx/chart/blobs/${layer.digest}`)).bytes.length).toBe(1000)
  })

  it('not a layer that is elsewhere', async () => {
    const config = await debian.fill.blob(
      'fx/foreign',
      Buffer.from(
        JSON.stringify({ ...HOST_PLATFORM, rootfs: { type: 'layers', diff_ids: [digestOf('a'), digestOf('b')] } }),
      ),
      MEDIA.config,
    )
    const layer = await debian.fill.blob('fx/foreign', Buffer.from('here'), 'application/octet-stream')
    const elsewhere = {
      digest: digestOf('there'),
      size: 5,
      mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
      urls: ['http://127.0.0.1:1/'],
    }
    const document = { schemaVersion: 2, mediaType: MEDIA.manifest, config, layers: [layer, elsewhere] }
    await debian.fill.manifest('fx/foreign', document, '1')
    const ref = `${registry.host}/fx/foreign:1`
    const { status, body } = await pull(ref)
    expect({ status, detail: body.detail }).toEqual({ status: 201, detail: undefined })
    expect((await imageOf(ref))?.layers.map(({ missing }) => missing)).toEqual([undefined, true])
  })

  it('what Strata itself serves', async () => {
    const host = await freeAddress()
    const source = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false', STRATA_LISTEN: host } })
    try {
      const token = (await readFile(source.tokenFile, 'utf8')).trim()
      const authorization = `Basic ${Buffer.from(`anyone:${token}`).toString('base64')}`
      const image = await fill('fx/ours', [await layerOf({ from: { content: 'ours' } })], {
        tag: '1',
        into: { fill: new RegistryFiller(host, authorization) },
      })
      const { body } = await pull(`${host}/fx/ours:1`, '', authHeader({ username: 'anyone', password: token }))
      expect(body).toMatchObject({ images: [{ digest: image.digest, layers: 1 }] })
      expect((await pull(`${host}/fx/ours:1`)).body.code).toBe('registry_denied')
    } finally {
      await source.dispose()
    }
  })
})

describe('a pull that fails says why, and leaves nothing:', () => {
  /** A blob of the image is answered otherwise. */
  const lie = (digest: string, answer: (response: ServerResponse) => void): void => {
    registry.instead = ({ url }, response) => {
      if (!url?.endsWith(`/blobs/${digest}`)) return false
      answer(response)
      return true
    }
  }

  it.each<[string, string, (layer: Buffer) => (response: ServerResponse) => void]>([
    ['a wrong digest', 'digest_mismatch', (layer) => (to) => to.end(Buffer.alloc(layer.length))],
    ['a blob that is missing', 'blob_not_found', () => (to) => to.writeHead(404).end()],
    ['fewer bytes than the manifest says', 'registry_invalid', (layer) => (to) => to.end(layer.subarray(1))],
    ['more bytes', 'registry_invalid', (layer) => (to) => to.end(Buffer.concat([layer, layer]))],
  ])('%s', async (what, code, answer) => {
    const name = `fx/${what.replaceAll(' ', '-')}`
    const tar = await layerOf({ own: { content: randomBytes(3 * MIB) } })
    const image = await fill(name, [tar], { tag: '1', pack: (tar) => tar })
    lie(image.layers[0]!.digest, answer(tar))
    const { body, status } = await pull(`${registry.host}/${name}:1`)
    expect({ code: body.code, isError: status >= 400 }, body.detail).toEqual({ code, isError: true })
    expect(await imageOf(`${registry.host}/${name}:1`)).toBeUndefined()
    await until(async () => (await leasesLeft()).length === 0, 'no lease is left')
    expect(await dataLeft()).toEqual([])
  })

  it('a tag that does not exist', async () => {
    const { status, body } = await pull(`${registry.host}/fx/nothing:1`)
    expect({ status, code: body.code }, body.detail).toEqual({ status: 404, code: 'manifest_not_found' })
    expect(await leasesLeft()).toEqual([])
  })

  it('an index that leads to too many manifests, of which one is asked for: no layer comes, no image is left', async () => {
    const { layers, ...image } = await fill('fx/too-many', [await layerOf({ of: { content: 'too many' } })])
    const { mediaType, digest, size } = image
    const absent = Array.from({ length: 2_000 }, (_, at) => ({ mediaType, digest: digestOf(`none ${at}`), size: 1 }))
    const manifests = [{ mediaType, digest, size, platform: HOST_PLATFORM }, ...absent]
    const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.index, manifests }))
    registry.instead = ({ url }, response) => {
      if (!url?.endsWith('/manifests/large')) return false
      response.writeHead(200, { 'content-type': MEDIA.index, 'content-length': index.length }).end(index)
      return true
    }
    const { body } = await pull(`${registry.host}/fx/too-many:large`)
    expect(body.code, body.detail).toBe('limit_exceeded')
    expect(registry.blobs.filter((line) => line.includes(layers[0]!.digest))).toEqual([])
    expect((await strata.images()).filter((one) => one.digest === digest)).toEqual([])
    expect(await leasesLeft()).toEqual([])
  })

  it('a registry that is away: it is said what is waited for', async () => {
    const id = randomUUID()
    const gone = await freeAddress()
    const { status } = await strata.request('POST', `/v1/images?pull=${gone}/fx/a:1&job=${id}&wait=false`)
    expect(status).toBe(202)
    const steps = new Set<string>()
    await until(async () => {
      const { state, step } = await job(id)
      steps.add(step)
      return state === 'failed'
    }, 'the pull has failed')
    expect([...steps].find((step) => step.startsWith(`waiting for ${gone}: `))).toBeDefined()
    expect((await job(id)).error).toMatchObject({
      code: 'registry_unavailable',
      message: expect.stringContaining(gone) as string,
    })
    expect(await leasesLeft()).toEqual([])
  })

  it('a name that is none, a body, options of a load', async () => {
    expect(await pull('UPPER/Case')).toMatchObject({ status: 400, body: { code: 'name_invalid' } })
    expect(await pull('a/b:1', '&name=other')).toMatchObject({ status: 400, body: { code: 'bad_request' } })
    expect(await pull('a/b:1', '', { 'x-registry-auth': 'nonsense' })).toMatchObject({ status: 400 })
    expect((await strata.request('POST', '/v1/images?pull=a/b:1', { some: 'body' })).status).toBe(400)
  })

  it('one that is cancelled in the middle of a layer', async () => {
    const tar = await layerOf({ own: { content: randomBytes(3 * MIB) } })
    await fill('fx/cancelled', [tar], { tag: '1', pack: (tar) => tar })
    registry.stopAfter = 2 * MIB
    const id = randomUUID()
    await strata.request('POST', `/v1/images?pull=${registry.host}/fx/cancelled:1&job=${id}&wait=false`)
    await until(() => registry.isHolding, 'the layer comes')
    await until(async () => ((await job(id)).layers?.[0]?.bytes ?? 0) > MIB, 'it is told how much has come')
    expect(await job(id)).toMatchObject({
      state: 'active',
      step: 'pulling',
      layers: [{ state: 'pulling' }, { state: 'pulled' }],
    })
    expect((await strata.request('DELETE', `/v1/jobs/${id}`)).status).toBe(202)
    await until(async () => (await job(id)).state === 'cancelled', 'it is cancelled')
    await until(async () => (await leasesLeft()).length === 0, 'no lease is left')
    await until(() => !registry.isHolding, 'its connection is closed')
    expect(await dataLeft()).toEqual([])
  })
})

describe('who asks', () => {
  const ref = () => `${ofLocked.host}/fx/locked:1`
  const [username, password] = USER.split(':') as [string, string]
  let image: Filled
  beforeAll(async () => {
    image = await fill('fx/locked', [await layerOf({ locked: { content: 'up' } })], { tag: '1', into: locked })
  })

  it('is refused without credentials, and with wrong ones', async () => {
    expect((await pull(ref())).body.code).toBe('registry_denied')
    const { body } = await pull(ref(), '', authHeader({ username, password: 'wrong-one' }))
    expect(body.code, body.detail).toBe('registry_denied')
    expect(body.detail).not.toContain('wrong-one')
  })

  it('gets the image with right ones, which are nowhere in clear', async () => {
    const id = randomUUID()
    const { body } = await pull(ref(), `&job=${id}`, authHeader({ username, password, serveraddress: ofLocked.host }))
    expect(body).toMatchObject({ images: [{ digest: image.digest }] })
    const redis = new Redis({ path: strata.redisSocket })
    try {
      const dump: string[] = []
      for (const key of await redis.keys('*')) dump.push(key, (await redis.dumpBuffer(key)).toString('latin1'))
      for (const secret of [password, Buffer.from(USER).toString('base64')]) {
        expect(dump.join('\n')).not.toContain(secret)
        expect(strata.log).not.toContain(secret)
        expect(JSON.stringify(await job(id))).not.toContain(secret)
      }
    } finally {
      redis.disconnect()
    }
  })
})

it('the root is assembled where that is asked for, and mounted', async () => {
  await fill('fx/prepared', [await layerOf({ prepared: { content: 'here' } })], { tag: '1' })
  const ref = `${registry.host}/fx/prepared:1`
  expect((await pull(ref, '&prepare=true')).status).toBe(201)
  const where = `/v1/images/${encodeURIComponent(ref)}/mount`
  const { path } = (await strata.request('POST', where)).json<{ path: string }>()
  expect(await readFile(join(path, 'prepared'), 'utf8')).toBe('here')
  expect((await strata.request('DELETE', where)).status).toBe(204)
})

it('pulls of the same layers at the same time fetch each once, also where the first is cancelled', async () => {
  const tar = await layerOf({ own: { content: randomBytes(3 * MIB) } })
  const image = await fill('fx/at-once', [tar], { tag: '1', pack: (tar) => tar })
  const ref = `${registry.host}/fx/at-once:1`
  const asked = () => registry.blobs.filter((line) => line.includes(image.layers[0]!.digest)).length
  const begin = async (): Promise<string> => {
    const id = randomUUID()
    await strata.request('POST', `/v1/images?pull=${ref}&job=${id}&wait=false`)
    return id
  }
  registry.stopAfter = 2 * MIB
  const cancelled = await begin()
  await until(() => registry.isHolding, 'the layer comes')
  const others = [await begin(), await begin()]
  await until(async () => (await Promise.all(others.map(job))).every(({ step }) => step === 'pulling'), 'all pull')
  expect(asked()).toBe(1)
  registry.stopAfter = Infinity
  await strata.request('DELETE', `/v1/jobs/${cancelled}`)
  for (const id of others) await until(async () => (await job(id)).state === 'completed', 'the pull has ended')
  expect((await job(cancelled)).state).toBe('cancelled')
  expect(asked()).toBe(2)
})

it('a registry that asks for a pause gets it, and the record says so', async () => {
  const image = await fill('fx/busy', [await layerOf({ busy: { content: 'so' } })], { tag: '1' })
  let times = 0
  registry.instead = ({ url }, response) => {
    if (!url?.endsWith(`/blobs/${image.layers[0]!.digest}`) || times++ > 0) return false
    response.writeHead(429, { 'retry-after': '2' }).end()
    return true
  }
  const id = randomUUID()
  await strata.request('POST', `/v1/images?pull=${registry.host}/fx/busy:1&job=${id}&wait=false`)
  const steps = new Set<string>()
  await until(async () => {
    const { state, step } = await job(id)
    steps.add(step)
    return state === 'completed'
  }, 'the pull has ended')
  expect([...steps].find((step) => step.startsWith(`waiting for ${registry.host}: `))).toContain('429')
})

it('a layer is unpacked while another one still comes', async () => {
  const [first, last] = [
    await layerOf({ own: { content: randomBytes(3 * MIB) } }),
    await layerOf({ own: { content: randomBytes(2 * MIB) } }),
  ]
  const image = await fill('fx/ahead', [first, last], { tag: '1' })
  let go = (): void => undefined
  registry.instead = ({ url }, response) => {
    if (!url?.endsWith(`/blobs/${image.layers[1]!.digest}`)) return false
    const bytes = gzipSync(last, { level: 1 })
    response.writeHead(200, { 'content-length': bytes.length })
    response.write(bytes.subarray(0, 1000))
    go = () => response.end(bytes.subarray(1000))
    return true
  }
  const id = randomUUID()
  await strata.request('POST', `/v1/images?pull=${registry.host}/fx/ahead:1&job=${id}&wait=false`)
  const store = await strata.store()
  await until(async () => (await store.stat(keys.index(digestOf(first) as never))) !== undefined, 'one is unpacked')
  expect(await job(id)).toMatchObject({ state: 'active', step: 'pulling' })
  expect(await imageOf(`${registry.host}/fx/ahead:1`)).toBeUndefined()
  go()
  await until(async () => (await job(id)).state === 'completed', 'the pull has ended')
})

it('a layer that does not unpack ends the pull at once, while another one still comes', async () => {
  const [bad, last] = [randomBytes(3 * MIB), await layerOf({ own: { content: randomBytes(2 * MIB) } })]
  const image = await fill('fx/bad', [bad, last], { tag: '1', pack: (tar) => tar })
  registry.instead = ({ url }, response) => {
    if (!url?.endsWith(`/blobs/${image.layers[1]!.digest}`)) return false
    response.writeHead(200, { 'content-length': last.length })
    response.write(last.subarray(0, 1000))
    return true
  }
  const { status, body } = await pull(`${registry.host}/fx/bad:1`)
  expect({ status, code: body.code }, body.detail).toEqual({ status: 400, code: 'layer_invalid' })
  await until(async () => (await leasesLeft()).length === 0, 'no lease is left')
})

it('an ingest service that is stopped gives its pull back, with all that has come', async () => {
  const large = await layerOf({ large: { content: randomBytes(5 * MIB) } })
  const image = await fill('fx/stopped', [large], { tag: '1', pack: (tar) => tar })
  registry.stopAfter = 2 * MIB
  const id = randomUUID()
  await strata.request('POST', `/v1/images?pull=${registry.host}/fx/stopped:1&job=${id}&wait=false`)
  await until(
    async () => registry.isHolding && ((await job(id)).layers?.[0]?.bytes ?? 0) === 2 * MIB,
    'a part has come',
  )
  await strata.stop('SIGTERM', 'ingest')
  expect(await job(id)).toMatchObject({ state: 'active' })
  registry.stopAfter = Infinity
  await strata.startGroup(['ingest'])
  await until(async () => (await job(id)).state === 'completed', 'the pull has ended')
  const total = image.config.size + image.layers[0]!.size
  expect(registry.bytes).toBe(total)
  expect(registry.blobs.at(-1)).toContain(`bytes=${2 * MIB}-`)
})

describe('the ingest service is killed in the middle of a pull', () => {
  it('what was here is not fetched again, and a layer goes on where it was', async () => {
    const large = await layerOf({ large: { content: randomBytes(150 * MIB) } })
    const small = await layerOf({ small: { content: randomBytes(2 * MIB) } })
    const image = await fill('fx/killed', [large, small], { tag: '1', pack: (tar) => tar })
    const total = [image.config, ...image.layers].reduce((sum, { size }) => sum + size, 0)
    const ref = `${registry.host}/fx/killed:1`
    const id = randomUUID()
    await strata.request('POST', `/v1/images?pull=${ref}&job=${id}&wait=false`)
    await until(
      async () => {
        const told = (await job(id)).layers ?? []
        return told[1]?.state === 'pulled' && told[0]!.bytes > 80 * MIB
      },
      'the small layer is here, and a chunk of the large one',
      60,
      1,
    )
    await strata.stop('SIGKILL', 'ingest')
    await strata.startGroup(['ingest'])
    const done = async (): Promise<boolean> => ['completed', 'failed'].includes((await job(id)).state)
    await until(done, 'the pull has ended')
    const record = await job(id)
    expect(record, JSON.stringify(record)).toMatchObject({ state: 'completed', total })
    expect((record.result as LoadResult).pulled).toMatchObject({ blobs: { new: { count: 3, bytes: total } } })
    const asked = (digest: string) => registry.blobs.filter((line) => line.includes(digest))
    expect(asked(image.layers[1]!.digest)).toHaveLength(1)
    expect(asked(image.config.digest)).toHaveLength(1)
    // Ranges that were under way, and what of the last chunk was not recorded.
    expect(registry.bytes).toBeLessThan(total + 100 * MIB)
    expect(await imageOf(ref)).toMatchObject({ digest: image.digest })
    await until(async () => (await leasesLeft()).length === 0, 'no lease is left')
  })
})
