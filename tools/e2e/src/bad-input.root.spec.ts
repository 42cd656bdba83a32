import { readFileSync } from 'node:fs'
import { buffer } from 'node:stream/consumers'
import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import { concat, file, header, makeArchive, makeLayer, openFixture, ZEROS } from '@strata/archive/testing'
import type { Problem } from '@strata/api'
import { digestOf, hexOf } from '@strata/oci'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { guarded } from './testing/guard.js'
import { settledStore } from './testing/store-state.js'
import { StrataUnderTest } from './testing/strata.js'
import { asksAll } from './testing/topology.js'

let strata: StrataUnderTest
let before: string[]
beforeAll(async () => {
  strata = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false' } })
})
beforeEach(async () => {
  before = await settledStore(strata)
})
afterAll(async () => {
  await strata.dispose()
})
guarded(() => strata)

/**
 * Sends an archive that is to be refused: a problem of one sentence, nothing visible, nothing left.
 */
async function refused(body: Buffer | Readable, query = ''): Promise<Problem> {
  const answer = await strata.request(
    'POST',
    `/v1/images${query}`,
    Buffer.isBuffer(body) ? Readable.from([body]) : body,
  )
  expect(answer.headers['content-type'], answer.bytes.toString()).toBe('application/problem+json')
  const problem = answer.json<Problem>()
  expect(problem.status).toBe(answer.status)
  expect(answer.status, problem.detail).toBeGreaterThanOrEqual(400)
  expect(answer.status, problem.detail).toBeLessThan(500)
  expect(problem.detail, 'a sentence').toMatch(/^\S[^\n]{10,600}$/)
  expect(await settledStore(strata), 'nothing is left').toEqual(before)
  expect(await strata.images()).toEqual([])
  return problem
}

const layer = concat(file('f', 'content'), ZEROS)
interface Parts {
  layers?: Buffer[]
  config?: string | Buffer
  diffIds?: string[]
  manifest?: string
  extra?: Buffer[]
}
/** A docker archive of parts, right but for what is given. */
function archive({
  layers = [layer],
  diffIds = layers.map((bytes) => digestOf(bytes)),
  config = JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: diffIds } }),
  extra = [],
  ...parts
}: Parts = {}): Buffer {
  const manifest =
    parts.manifest ??
    JSON.stringify([
      { Config: 'config.json', RepoTags: ['bad/input:1'], Layers: layers.map((_, at) => `${at}/layer.tar`) },
    ])
  return concat(
    file('config.json', config),
    ...layers.map((bytes, at) => file(`${at}/layer.tar`, bytes)),
    ...extra,
    file('manifest.json', manifest),
    ZEROS,
  )
}
const manifestOf = (Config: unknown, Layers: unknown, RepoTags: unknown = ['bad/input:1']): string =>
  JSON.stringify([{ Config, Layers, RepoTags }])

/**
 * Who looks at an archive does so before it knows of a store. Services that run apart get one row
 * of each error, and one path: what has come by then must go from a bucket too.
 */
const NO_IMAGES: readonly [string, () => Buffer | Promise<Buffer>, string][] = [
  ['nothing at all', () => Buffer.alloc(0), 'archive_invalid'],
  ['text', () => Buffer.from('hello, I am no tar\n'.repeat(100)), 'archive_invalid'],
  ['one byte', () => Buffer.from('x'), 'archive_invalid'],
  ['gzip of text', () => gzipSync('hello'.repeat(500)), 'archive_invalid'],
  ['zeros', () => Buffer.alloc(100_000), 'not_an_image'],
  [
    'bytes behind a gzip member',
    () => Buffer.concat([gzipSync(archive()), Buffer.from('rubbish that is no member')]),
    'archive_invalid',
  ],
  [
    'the magic of zstd and rubbish',
    () => Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), Buffer.alloc(3000, 7)]),
    'archive_invalid',
  ],
  [
    'a root file system',
    () =>
      makeLayer(
        new Map([
          ['bin', { folder: true }],
          ['etc', { folder: true }],
          ['usr', { folder: true }],
        ]),
      ),
    'not_an_image',
  ],
  ['an archive that lists no image', () => concat(file('manifest.json', '[]'), ZEROS), 'not_an_image'],
  ['a manifest that is no JSON', () => archive({ manifest: '[{' }), 'archive_invalid'],
  ['a manifest of another shape', () => archive({ manifest: '{"a": 1}' }), 'archive_invalid'],
  ['JSON nested a million times', () => archive({ manifest: '['.repeat(1_000_000) }), 'limit_exceeded'],
  ['a config that is no JSON', () => archive({ config: 'x' }), 'archive_invalid'],
  ['a config of wrong types', () => archive({ config: '{"rootfs": {"diff_ids": 7}}' }), 'archive_invalid'],
  [
    'a config that is missing',
    () => archive({ manifest: manifestOf('other.json', ['0/layer.tar']) }),
    'archive_invalid',
  ],
  ['a layer that is missing', () => archive({ manifest: manifestOf('config.json', ['1/layer.tar']) }), 'layer_missing'],
  ['fewer layers than the config says', () => archive({ manifest: manifestOf('config.json', []) }), 'archive_invalid'],
  ['a plain layer of another digest', () => archive({ diffIds: [digestOf('other')] }), 'digest_mismatch'],
  [
    'a config of another digest',
    () =>
      archive({
        manifest: manifestOf(`${hexOf(digestOf('other'))}.json`, ['0/layer.tar']),
        extra: [file(`${hexOf(digestOf('other'))}.json`, '{}')],
      }),
    'digest_mismatch',
  ],
  [
    'a name that is none',
    () => archive({ manifest: manifestOf('config.json', ['0/layer.tar'], ['../../etc/passwd']) }),
    'name_invalid',
  ],
  ['JSON of 100 MB', () => archive({ manifest: `[${' '.repeat(100_000_000)}]` }), 'limit_exceeded'],
  ['a config of 100 MB', () => archive({ config: `{${' '.repeat(100_000_000)}}` }), 'limit_exceeded'],
]

describe('no image', () => {
  it.each(
    asksAll() ? NO_IMAGES : NO_IMAGES.filter(([, , code], at) => at === NO_IMAGES.findIndex((row) => row[2] === code)),
  )('%s', async (_, make, code) => {
    const problem = await refused(await make())
    expect(problem.code, problem.detail).toBe(code)
  })
})

const PATHS: readonly [string, Parts][] = [
  ['a config above the archive', { manifest: manifestOf('../../../../etc/passwd', ['0/layer.tar']) }],
  ['an absolute config', { manifest: manifestOf('/etc/passwd', ['0/layer.tar']) }],
  ['an absolute layer', { manifest: manifestOf('config.json', ['/etc/passwd']) }],
  ['a layer above', { manifest: manifestOf('config.json', ['0/../../x']) }],
  [
    'a layer that is a link out',
    {
      manifest: manifestOf('config.json', ['out']),
      extra: [header({ name: 'out', type: '2', link: '../../../etc/passwd' })],
    },
  ],
  [
    'a layer that is an absolute link',
    {
      manifest: manifestOf('config.json', ['out']),
      extra: [header({ name: 'out', type: '2', link: '/etc/passwd' })],
    },
  ],
  [
    'a hard link out',
    {
      manifest: manifestOf('config.json', ['out']),
      extra: [header({ name: 'out', type: '1', link: '../../etc/passwd' })],
    },
  ],
  [
    'links in a circle',
    {
      manifest: manifestOf('config.json', ['a']),
      extra: [header({ name: 'a', type: '2', link: 'b' }), header({ name: 'b', type: '2', link: 'a' })],
    },
  ],
]

describe('paths that lead outside', () => {
  it.each(asksAll() ? PATHS : PATHS.slice(0, 1))('%s', async (_, parts) => {
    const passwd = readFileSync('/etc/passwd')
    const { code, detail } = await refused(archive(parts))
    expect(code, detail).toBe('archive_invalid')
    expect(readFileSync('/etc/passwd')).toEqual(passwd)
  })

  it('a folder of the archive named like one of ours is a name like another', async () => {
    await strata.load(
      Readable.from([archive({ extra: [file('../../../canary', 'x'), file('/etc/strata-canary', 'x')] })]),
    )
    expect(() => readFileSync('/etc/strata-canary')).toThrow(/ENOENT/)
    await strata.request('DELETE', `/v1/images/${encodeURIComponent('bad/input:1')}`)
  })
})

describe('cut off', () => {
  const sample = (length: number, count: number): number[] =>
    Array.from({ length: count }, (_, at) => Math.floor((length * (at + 0.37)) / count))

  it('a plain archive, anywhere', async () => {
    const whole = await buffer(openFixture('docker28-odd.tar'))
    const dataStart = 1024
    for (const at of [1, 511, 512, 513, dataStart + 100, ...sample(whole.length - 2048, 12)]) {
      const { code, detail } = await refused(whole.subarray(0, at))
      // Cut between two entries it is a tar, of less.
      expect(['archive_truncated', 'layer_missing', 'archive_invalid', 'not_an_image'], `${at}: ${detail}`).toContain(
        code,
      )
      if (at < 512) expect([code, detail]).toEqual(['archive_invalid', expect.stringMatching(/this is not a tar/)])
      else if (at % 512 !== 0) expect(code, `${at}: ${detail}`).toBe('archive_truncated')
    }
  })

  it.each(
    asksAll() ? (['docker20-multi.tar.gz', 'skopeo-oci-zstd.tar'] as const) : (['docker20-multi.tar.gz'] as const),
  )('%s, anywhere', async (name) => {
    const whole = await buffer(openFixture(name))
    for (const at of [2, 11, ...sample(whole.length - 10_240, 8)]) {
      const { code, detail } = await refused(whole.subarray(0, at))
      expect(['archive_truncated', 'layer_missing', 'archive_invalid'], `${at}: ${detail}`).toContain(code)
    }
  })

  it('the checksum of a gzip', async () => {
    const packed = gzipSync(archive())
    packed[packed.length - 6]! ^= 0xff
    expect((await refused(packed)).code).toBe('archive_invalid')
  })

  it('and what came before loads again', async () => {
    await strata.load(openFixture('docker28-odd.tar'))
    await strata.request('DELETE', `/v1/images/${encodeURIComponent('fx/odd:3')}`)
    before = await settledStore(strata)
    expect((await refused(await makeArchive({ names: ['x/y:z'], layers: [] }), '?name=UP//')).code).toBe('name_invalid')
  })
})
