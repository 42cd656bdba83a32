import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import { concat, file, ZEROS } from '@strata/archive/testing'
import type { ImageView, Problem } from '@strata/api'
import { digestOf, MEDIA, parseReference } from '@strata/oci'
import { BlobStore, keys, Leases } from '@strata/store'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadBusybox } from './testing/busybox-image.js'
import { guarded } from './testing/guard.js'
import { leftOnNode, StrataUnderTest } from './testing/strata.js'

/**
 * What a small archive or request may ask for by its config and its names (docs/security.md,
 * limits).
 */
let strata: StrataUnderTest
beforeAll(async () => {
  strata = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false' } })
})
afterAll(() => strata.dispose())
guarded(() => strata)

const DEEP = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`/${n}${'/d'.repeat(1_900)}`, {}]))
const ofConfig = (config: object): object => ({
  architecture: 'amd64',
  os: 'linux',
  config,
  rootfs: { type: 'layers' },
})
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))
const docker = (config: object, names: readonly string[] = ['t/limits']): Buffer =>
  gzipSync(
    concat(
      file('c.json', json(ofConfig(config))),
      file('manifest.json', json([{ Config: 'c.json', RepoTags: names, Layers: [] }])),
      ZEROS,
    ),
  )
const blob = (bytes: Buffer): Buffer => file(`blobs/sha256/${digestOf(bytes).slice(7)}`, bytes)
function layout(config: object): Buffer {
  const bytes = json(ofConfig(config))
  const manifest = json({
    schemaVersion: 2,
    config: { mediaType: MEDIA.config, digest: digestOf(bytes), size: bytes.length },
    layers: [],
  })
  const index = json({
    schemaVersion: 2,
    manifests: [{ mediaType: MEDIA.manifest, digest: digestOf(manifest), size: manifest.length }],
  })
  return gzipSync(
    concat(
      blob(bytes),
      blob(manifest),
      file('oci-layout', '{"imageLayoutVersion":"1.0.0"}'),
      file('index.json', index),
      ZEROS,
    ),
  )
}
const query = (changes: readonly string[]): string =>
  `?${new URLSearchParams([['import', 't/limits'], ...changes.map((change): [string, string] => ['change', change])]).toString()}`
const tree = concat(file('a', 'x'), ZEROS)
const doubled = (line: string, before: readonly string[] = []): string =>
  query([...before, 'ENV A=0123456789', ...Array<string>(30).fill(line)])

it.each<[name: string, query: string, body: Buffer, sentence: RegExp]>([
  [
    '100 volumes of depth 1,900, in a docker archive',
    '',
    docker({ Volumes: DEEP }),
    /has 3\d{5} bytes in the paths of its volumes; the limit is 65536/,
  ],
  [
    '100 volumes of depth 1,900, in a layout',
    '',
    layout({ Volumes: DEEP }),
    /has 3\d{5} bytes in the paths of its volumes; the limit is 65536/,
  ],
  [
    'a word that no kernel takes',
    '',
    docker({ Cmd: ['x'.repeat(200_000)] }),
    /has 200000 bytes in a word of its command or environment; the limit is 131071/,
  ],
  [
    'a command that no kernel starts',
    '',
    docker({ Env: Array.from({ length: 100 }, (_, n) => `V${n}=`.padEnd(20_000, 'x')) }),
    /has 2000000 bytes in its command and environment; the limit is 1048576/,
  ],
  [
    '20,000 labels',
    '',
    docker({ Labels: Object.fromEntries(Array.from({ length: 20_000 }, (_, n) => [n, ''])) }),
    /has 20000 labels; the limit is 10000/,
  ],
  [
    'a deep working directory',
    '',
    docker({ WorkingDir: '/d'.repeat(300) }),
    /has 300 folders in the path of a volume or its working directory; the limit is 256/,
  ],
  [
    '20,000 names',
    '',
    docker(
      {},
      Array.from({ length: 20_000 }, (_, n) => `t/n:${n}`),
    ),
    /^the archive has 20000 names; the limit is 1000/,
  ],
  ['a working directory that an import makes', query([`WORKDIR ${'/d'.repeat(300)}`]), tree, /has 300 folders/],
  ['a variable that doubles', doubled('ENV A=$A$A'), tree, /^the changes expand to more than 4194304 characters/],
  [
    'a label that doubles',
    doubled('LABEL A=$B$B', [`ENV B=${'x'.repeat(3_000)}`, 'ENV B=$B$B$B$B$B$B$B$B', 'ENV B=$B$B$B$B$B$B$B$B']),
    tree,
    /^the changes expand to more than/,
  ],
  [
    'a variable larger than a word may be',
    query([`ENV A=${'x'.repeat(5_000)}`, `ENV A=${'$A'.repeat(30)}`]),
    tree,
    /has 150002 bytes in a word/,
  ],
  ['ports over and over', query(Array<string>(100).fill('EXPOSE 1-65535')), tree, /^the changes expand to more than/],
])('%s', async (_name, parameters, body, sentence) => {
  expect(body.length + parameters.length).toBeLessThan(300_000)
  const { code, detail } = (
    await strata.request('POST', `/v1/images${parameters}`, Readable.from([body]))
  ).json<Problem>()
  expect(code, detail).toBe('limit_exceeded')
  expect(detail).toMatch(sentence)
  expect(await strata.images()).toEqual([])
})

describe('an image at its limits', () => {
  it('runs, with all its volumes', async () => {
    const volumes = Array.from({ length: 16 }, (_, n) => `/v${n}${'/d'.repeat(255)}`)
    await loadBusybox(strata, 't/limits', [], { Volumes: Object.fromEntries(volumes.map((path) => [path, {}])) })
    const { code, stdout, stderr } = await strata.cli([
      'run',
      '--rm',
      't/limits',
      '/bin/sh',
      '-c',
      `ls -d /v[0-9]* | wc -l; cd ${volumes[15]!} && pwd`,
    ])
    expect({ code, stdout: stdout.toString(), stderr }).toEqual({
      code: 0,
      stdout: `16\n${volumes[15]!}\n`,
      stderr: '',
    })
    await strata.cli(['rmi', 't/limits'])
  })
})

describe('an image that was stored before there were limits', () => {
  it('is listed, shown and removed, and is refused when it is to run', async () => {
    await loadBusybox(strata, 't/new')
    const { id, digest } = (await strata.request('GET', '/v1/images/t%2Fnew')).json<ImageView>()
    const store = await strata.store()
    const [blobs, leases] = [new BlobStore(store), new Leases(store)]
    const upload = randomUUID()
    await leases.create(upload, { job: { kind: 'load', id: upload }, request: {} })
    const read = async (blob: string) =>
      JSON.parse((await blobs.read(blob as never, 1_000_000)).toString()) as Record<string, object>
    const config = json({ ...(await read(id)), config: { Cmd: ['true'], Volumes: DEEP } })
    const manifest = json({
      ...(await read(digest)),
      config: { mediaType: MEDIA.config, digest: digestOf(config), size: config.length },
    })
    for (const bytes of [config, manifest]) await blobs.add(digestOf(bytes), bytes, upload)
    const name = parseReference('t/old:latest')
    const record = {
      id: digestOf(config),
      digest: digestOf(manifest),
      mediaType: MEDIA.manifest,
      manifestSize: manifest.length,
      size: 1,
      layers: 1,
    }
    await store.create(keys.tag(name.repository, name.tag!), json({ rev: 'x', value: record }))
    await leases.end(upload)

    expect((await strata.request('GET', '/v1/images/t%2Fold')).json<ImageView>()).toMatchObject({
      id: record.id,
      names: ['t/old:latest'],
    })
    const { code, stderr } = await strata.cli(['run', '--rm', 't/old'])
    expect({ code, stderr }).toEqual({
      code: 125,
      stderr: expect.stringMatching(
        /the config of t\/old has 3\d{5} bytes in the paths of its volumes; the limit is 65536/,
      ) as string,
    })
    expect(await strata.containers()).toEqual([])
    await strata.cli(['rmi', 't/old', 't/new'])
    expect(await strata.images()).toEqual([])
    expect(leftOnNode(strata.node)).toEqual([])
  })
})
