import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { Readable } from 'node:stream'
import { FIXTURES, openFixture, type FixtureName } from '@strata/archive/testing'
import type { ImageView, LoadResult } from '@strata/api'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { settledStore } from './testing/store-state.js'
import { StrataUnderTest } from './testing/strata.js'
import { asksAll } from './testing/topology.js'

let strata: StrataUnderTest
beforeAll(async () => {
  strata = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false' } })
})
afterAll(async () => {
  await strata.dispose()
})
afterEach(async () => {
  for (const { id } of await strata.images()) await strata.request('DELETE', `/v1/images/${id}?force`)
})

const odd = { names: ['fx/odd:3'], layers: 3 }
const PLAIN = 'sha256:8988f14c4782'
const PACKED = 'sha256:079b1a0533db'
/**
 * Names, number of layers, and how the id begins: that of the config's bytes, which tools of one
 * family share.
 */
const EXPECTED: Record<FixtureName, { names: string[]; layers: number; id: string }[]> = {
  'docker20-odd.tar': [{ ...odd, id: PLAIN }],
  'docker20-multi.tar.gz': [
    { names: ['fx/busybox:1'], layers: 1, id: 'sha256:6eb34e3bfe87' },
    { names: ['fx/odd:2'], layers: 2, id: 'sha256:74592797530d' },
    { ...odd, id: PLAIN },
  ],
  'docker20-empty.tar': [{ names: ['fx/empty:1'], layers: 1, id: 'sha256:d08d422533dc' }],
  'docker28-odd.tar': [{ ...odd, id: PLAIN }],
  'docker28-containerd-gzip.tar': [{ ...odd, id: PACKED }],
  'podman4-docker-archive.tar': [{ ...odd, names: ['localhost/fx/odd:3'], id: PLAIN }],
  'podman4-oci-archive.tar': [{ ...odd, names: ['localhost/fx/odd:3'], id: PACKED }],
  'skopeo-oci-gzip.tar': [{ ...odd, id: PACKED }],
  'skopeo-oci-zstd.tar': [{ ...odd, id: PACKED }],
}

const expectLoaded = (images: unknown, name: FixtureName): void => {
  expect(images).toMatchObject(
    EXPECTED[name].map(({ names, layers, id }) => ({ names, layers, id: expect.stringMatching(`^${id}`) as string })),
  )
}

/**
 * How an archive is read does not depend on where its bytes go: services that run apart get one of
 * each form that is kept in another way: plain layers, many images, packed layers.
 */
const ARCHIVES = FIXTURES.filter(
  (name) => asksAll() || ['docker20-empty.tar', 'docker20-multi.tar.gz', 'skopeo-oci-zstd.tar'].includes(name),
)

describe('every fixture loads', () => {
  it.each(ARCHIVES)('%s: by POST with a length, by PUT chunked, by the CLI from a pipe', async (name) => {
    const bytes = await buffer(openFixture(name))
    const posted = await strata.request('POST', '/v1/images', Readable.from([bytes]), { length: bytes.length })
    expect(posted.status, posted.bytes.toString()).toBe(201)
    const first = posted.json<LoadResult>()
    expectLoaded(first.images, name)
    const before = await settledStore(strata)

    const put = await strata.request('PUT', '/v1/images', Readable.from([bytes]))
    expect(put.status, put.bytes.toString()).toBe(201)
    expect(put.json<{ images: unknown }>().images).toEqual(first.images)
    const [brought, again] = [first.found!.layers, put.json<LoadResult>().found!.layers]
    expect(again, 'what came once is here already').toEqual({
      new: { count: 0, bytes: 0 },
      known: { count: brought.new.count + brought.known.count, bytes: brought.new.bytes + brought.known.bytes },
    })

    const { code, stdout, stderr } = await strata.cli(['load', '-q'], { input: Readable.from([bytes]) })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout.toString().trimEnd().split('\n')).toEqual(
      EXPECTED[name].flatMap(({ names }) => names.map((of) => `Loaded image: ${of}`)),
    )

    expect(await settledStore(strata), 'what is loaded again moves nothing and leaves nothing').toEqual(before)
    expect((await strata.images()).flatMap(({ names }) => names).sort()).toEqual(
      EXPECTED[name].flatMap(({ names }) => names).sort(),
    )
  })

  it('one by curl from a pipe, as the manual says', async () => {
    const curl = spawn('curl', ['-sS', '--unix-socket', strata.socket, '-T', '-', 'http://localhost/v1/images'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    openFixture('docker28-odd.tar').pipe(curl.stdin)
    const [answer] = await Promise.all([buffer(curl.stdout), once(curl, 'close')])
    expectLoaded((JSON.parse(answer.toString()) as { images: unknown }).images, 'docker28-odd.tar')
  })
})

it.each(asksAll() ? ['xz', 'bzip2'] : ['xz'])(
  'an archive packed by %s, as a body and as a file that the service reads',
  async (program) => {
    const packed = execFileSync(program, ['-1', '-c'], {
      input: await buffer(openFixture('docker20-odd.tar')),
      maxBuffer: 64 * 1024 * 1024,
    })
    expectLoaded((await strata.load(Readable.from([packed]))).images, 'docker20-odd.tar')
    const folder = await mkdtemp('/var/tmp/strata-packed-')
    try {
      const file = join(folder, 'no-name-for-it')
      await writeFile(file, packed)
      expect(await strata.cli(['load', '-q', file])).toMatchObject({ code: 0, stderr: '' })
      await truncate(file, packed.length - 100)
      expect(await strata.cli(['load', '-q', file])).toMatchObject({
        code: 1,
        stderr: expect.stringContaining(`the archive's ${program} stream is cut short`) as string,
      })
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  },
)

it('shows layers and history', async () => {
  await strata.load(openFixture('docker28-containerd-gzip.tar'))
  const image = (await strata.request('GET', `/v1/images/${encodeURIComponent('fx/odd:3')}`)).json<ImageView>()
  expect(image).toMatchObject({
    id: expect.stringMatching(`^${PACKED}`) as string,
    names: ['fx/odd:3'],
    architecture: 'amd64',
    os: 'linux',
    config: { user: '0', workdir: '/home', volumes: ['/data'], exposedPorts: ['8080/tcp'] },
    layers: [
      {
        diffId: expect.stringMatching(/^sha256:807953b6/) as string,
        size: 1_215_482,
        mediaType: expect.stringContaining('gzip') as string,
      },
      { diffId: expect.stringMatching(/^sha256:3782d6d3/) as string, size: 16_126 },
      { diffId: expect.stringMatching(/^sha256:4689fcb4/) as string, size: 362 },
    ],
  })
  const [lowest, above] = image.layers
  expect(lowest?.chainId, 'the lowest layer’s chainID is its diffID').toBe(lowest?.diffId)
  expect(above?.chainId).not.toBe(above?.diffId)
  expect(image.size).toBe(1_215_482 + 16_126 + 362)
  expect(image.history.flatMap(({ diffId }) => diffId ?? [])).toEqual(image.layers.map(({ diffId }) => diffId))
  const { code, stdout } = await strata.cli(['inspect', 'fx/odd:3'])
  expect({ code, inspected: JSON.parse(stdout.toString()) as unknown }).toMatchObject({
    code: 0,
    inspected: [
      {
        Id: image.id,
        RepoTags: image.names,
        RootFS: { Layers: image.layers.map(({ diffId }) => diffId) },
        Layers: image.layers.map(({ digest, chainId }) => ({ Digest: digest, ChainId: chainId })),
      },
    ],
  })
})

it('an image of no files loads, and to run it answers clearly', async () => {
  await strata.load(openFixture('docker20-empty.tar'))
  const { code, stdout, stderr } = await strata.cli(['run', '--rm', 'fx/empty:1'])
  expect({ code, stdout: stdout.toString() }).toEqual({ code: 125, stdout: '' })
  expect(stderr.trimEnd().split('\n')).toHaveLength(1)
  expect(stderr).toMatch(/no command|nothing to run/i)
})
