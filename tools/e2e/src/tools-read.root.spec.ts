import { execFileSync } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import type { ImageView } from '@strata/api'
import type { ArchiveFormat } from '@strata/archive'
import { openFixture, TestLayout, type FixtureName } from '@strata/archive/testing'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { absentOf, newerDocker, PEERS, type Peer, type PeerKind } from './testing/peers.js'
import { StrataUnderTest } from './testing/strata.js'

/**
 * What the field's tools make of archives that Strata writes: they take them, and what they write
 * again is the same image.
 */
let strata: StrataUnderTest
let folder: string
beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/strata-peers-')
  strata = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false' } })
})
afterAll(async () => {
  await strata.dispose()
  await rm(folder, { recursive: true, force: true })
})

const NAME = 'fx/odd:3'
const HOST = process.arch === 'x64' ? 'amd64' : 'arm64'
const OTHER = process.arch === 'x64' ? 'arm64' : 'amd64'
/** One that came plain, one whose layers are packed. */
const FIXTURES: readonly FixtureName[] = ['docker20-odd.tar', 'skopeo-oci-gzip.tar']
const inspect = async () => {
  const { id, layers } = (await strata.request('GET', `/v1/images/${encodeURIComponent(NAME)}`)).json<ImageView>()
  return { id, diffIds: layers.map(({ diffId }) => diffId) }
}
async function saved(fixture: FixtureName, format: ArchiveFormat) {
  for (const { id } of await strata.images()) await strata.request('DELETE', `/v1/images/${id}?force`)
  await strata.load(openFixture(fixture))
  const file = join(folder, `${fixture}-${format}`)
  expect(await strata.cli(['save', '--format', format, '-o', file, NAME])).toMatchObject({ code: 0, stderr: '' })
  return { file, image: await inspect() }
}

const kinds: [name: string, kind: PeerKind][] = [
  ...Object.entries(PEERS),
  ...[newerDocker()].flatMap((docker): [string, PeerKind][] =>
    docker ? [['the docker of STRATA_TEST_DOCKER', docker]] : [],
  ),
]
describe.each(kinds)('%s', (name, { formats, programs, start }) => {
  const absent = absentOf(programs)
  let peer: Peer | undefined
  beforeAll(async () => {
    const own = join(folder, name.replaceAll(/\W/g, '-'))
    await mkdir(own)
    if (absent.length === 0) peer = await start(own)
  })
  afterAll(() => peer?.stop())

  it.for(formats.flatMap((format) => FIXTURES.map((fixture) => [format, fixture] as const)))(
    'takes the %s archive of %s, and writes the same image',
    async ([format, fixture], context) => {
      if (!peer) return context.skip(`it needs ${absent.join(' and ')}`)
      const { file, image } = await saved(fixture, format)
      const again = `${file}-again-${name}`
      peer.load(file, format)
      peer.save(again, format, NAME)
      for (const { id } of await strata.images()) await strata.request('DELETE', `/v1/images/${id}?force`)
      expect((await strata.load(createReadStream(again))).images).toMatchObject([{ names: [NAME] }])
      expect(await inspect()).toEqual(image)
    },
  )

  it.for(formats)('takes the %s archive of an image with several platforms', async (format, context) => {
    if (!peer) return context.skip(`it needs ${absent.join(' and ')}`)
    for (const { id } of await strata.images()) await strata.request('DELETE', `/v1/images/${id}?force`)
    const layout = new TestLayout()
    const [here, other] = [await layout.image(HOST), await layout.image(OTHER)]
    const bytes = await layout.tar([
      { ...layout.index([other, here]), annotations: { 'io.containerd.image.name': 'docker.io/fx/odd:3' } },
    ])
    expect((await strata.request('POST', '/v1/images?platform=all', Readable.from([bytes]))).status).toBe(201)
    const [file, again] = [join(folder, `several-${format}`), join(folder, `several-${format}-again-${name}`)]
    expect(await strata.cli(['save', '--format', format, '-o', file, NAME])).toMatchObject({ code: 0, stderr: '' })
    peer.load(file, format)
    peer.save(again, format, NAME)
    for (const { id } of await strata.images()) await strata.request('DELETE', `/v1/images/${id}?force`)
    await strata.load(createReadStream(again))
    expect((await inspect()).id).toBe(here.id)
  })
})

it('umoci unpacks the oci archive', async (context) => {
  const absent = absentOf(['umoci'])
  if (absent.length > 0) return context.skip('it needs umoci')
  const { file } = await saved('skopeo-oci-gzip.tar', 'oci')
  const layout = join(folder, 'layout')
  await mkdir(layout)
  execFileSync('tar', ['-C', layout, '-xf', file])
  execFileSync('umoci', ['unpack', '--image', `${layout}:3`, join(folder, 'bundle')], { stdio: 'ignore' })
  const inside = await strata.cli(['cat', NAME, '/etc/passwd'])
  expect(inside.code).toBe(0)
  expect(await readFile(join(folder, 'bundle/rootfs/etc/passwd'))).toEqual(inside.stdout)
})
