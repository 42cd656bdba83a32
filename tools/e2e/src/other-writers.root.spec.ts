import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { concat, file, header, makeLayer, openFixture, ZEROS } from '@strata/archive/testing'
import type { DiffView, ImageView } from '@strata/api'
import { digestOf } from '@strata/oci'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { packedImage } from './testing/packed-image.js'
import { StrataUnderTest } from './testing/strata.js'

/**
 * Archives and layers as tools wrote or write them that no system's packages have, on their whole
 * way: in, shown, mounted.
 */
let strata: StrataUnderTest
let folder: string
beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/strata-writers-')
  strata = await StrataUnderTest.start()
})
afterAll(async () => {
  await strata.dispose()
  await rm(folder, { recursive: true, force: true })
})

const path = (ref: string, rest = ''): string => `/v1/images/${encodeURIComponent(ref)}${rest}`
const inspect = async (ref: string): Promise<ImageView> => (await strata.request('GET', path(ref))).json<ImageView>()

it('docker before 1.10: the image that docker makes of it, with the same files', async () => {
  // docker 20.10 writes the old form as well: without manifest.json and the config, this is what
  // docker 1.9 wrote.
  const [tree, old] = [join(folder, 'tree'), join(folder, 'old.tar')]
  await mkdir(tree)
  execFileSync('tar', ['-C', tree, '-x'], { input: await buffer(openFixture('docker20-odd.tar')) })
  const [{ Config }] = JSON.parse(await readFile(join(tree, 'manifest.json'), 'utf8')) as [{ Config: string }]
  await strata.load(openFixture('docker20-odd.tar'))
  expect(await strata.cli(['tag', 'fx/odd:3', 'fx/new:3'])).toMatchObject({ code: 0 })
  await Promise.all(['manifest.json', Config].map((name) => rm(join(tree, name))))
  execFileSync('tar', ['-C', tree, '-cf', old, '.'])
  expect(await strata.cli(['load', '-q', old])).toMatchObject({ code: 0, stderr: '' })
  // What `docker load` of docker 20.10.24 says of this archive.
  expect((await inspect('fx/odd:3')).id).toBe('sha256:3669f6a27d22f0df1cc43192c851004d5f3d7f2e8a08e2365da7666b134c4b65')
  const difference = (
    await strata.request('GET', path('fx/odd:3', `/diff?other=${encodeURIComponent('fx/new:3')}`))
  ).json<DiffView>()
  expect(difference).toMatchObject({
    added: { count: 0 },
    changed: { count: 0 },
    removed: { count: 0 },
    unread: { count: 0 },
    changes: [],
  })
  const mounted = await strata.cli(['mount', 'fx/odd:3'])
  expect(mounted).toMatchObject({ code: 0, stderr: '' })
  await strata.cli(['umount', 'fx/odd:3'])
})

it('a layer that is a hard link to another', async () => {
  const layer = await makeLayer(new Map([['once', { content: 'in both' }]]))
  const config = JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: [digestOf(layer), digestOf(layer)] },
  })
  const manifest = JSON.stringify([
    { Config: 'config.json', RepoTags: ['linked:1'], Layers: ['a/layer.tar', 'b/layer.tar'] },
  ])
  await strata.load(
    Readable.from([
      concat(
        file('a/layer.tar', layer),
        header({ name: 'b/layer.tar', type: '1', link: 'a/layer.tar' }),
        file('config.json', config),
        file('manifest.json', manifest),
        ZEROS,
      ),
    ]),
  )
  expect((await inspect('linked:1')).layers).toHaveLength(2)
  expect((await strata.request('GET', path('linked:1', '/file?path=once'))).bytes.toString()).toBe('in both')
})

const contents = Array.from({ length: 6 }, (_, n) => randomBytes(700_000 + n))
/** Each file's header and content packed for themselves, as both of these forms have them. */
const piecesOf = (tar: Buffer): Buffer[] =>
  Array.from({ length: 12 }, (_, n) => tar.subarray((n * tar.length) / 12, ((n + 1) * tar.length) / 12))
const footer = (): Buffer => {
  const extra = Buffer.concat([Buffer.from('SG'), Buffer.from([22, 0]), Buffer.from('00000000000000ffSTARGZ')])
  return Buffer.concat([
    Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, extra.length, 0]),
    extra,
    Buffer.from([1, 0, 0, 0xff, 0xff]),
    Buffer.alloc(8),
  ])
}
const skippable = (content: Buffer): Buffer => {
  const head = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0])
  head.writeUInt32LE(content.length, 4)
  return Buffer.concat([head, content])
}

it.each<[string, (tar: Buffer) => Buffer]>([
  ['estargz', (tar) => Buffer.concat([...piecesOf(tar).map((piece) => gzipSync(piece)), footer()])],
  [
    'zstd-chunked',
    (tar) =>
      Buffer.concat([
        ...piecesOf(tar).map((piece) => zstdCompressSync(piece)),
        skippable(zstdCompressSync('{"version":1,"entries":[]}')),
        skippable(Buffer.concat([Buffer.alloc(56), Buffer.from('GNUlInUx')])),
      ]),
  ],
])('a layer in the form %s is kept as it came, each of its files is shown, and it is mounted', async (form, pack) => {
  const tar = await makeLayer(new Map(contents.map((content, n) => [`file-${n}`, { content }])))
  const blob = pack(tar)
  await strata.load(Readable.from([await packedImage(`forms/${form}:1`, [blob], [tar])]))
  expect((await inspect(`forms/${form}:1`)).layers).toMatchObject([
    { digest: digestOf(blob), diffId: digestOf(tar), size: blob.length },
  ])
  for (const n of [5, 0, 3])
    expect(
      (await strata.request('GET', path(`forms/${form}:1`, `/file?path=file-${n}`))).bytes.equals(contents[n]!),
      `file-${n}`,
    ).toBe(true)
  const mounted = await strata.cli(['mount', `forms/${form}:1`])
  expect((await readFile(join(mounted.stdout.toString().trim(), 'file-4'))).equals(contents[4]!)).toBe(true)
  await strata.cli(['umount', `forms/${form}:1`])
})
