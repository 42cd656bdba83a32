import { execFileSync } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import type { ImageView } from '@strata/api'
import { openFixture, TestLayout } from '@strata/archive/testing'
import { afterAll, beforeAll, beforeEach, describe, expect, it, type TestContext } from 'vitest'
import { absentOf } from './testing/peers.js'
import { StrataUnderTest } from './testing/strata.js'

/** Archives as tools write them on this machine, and what tools make of ours. */
let strata: StrataUnderTest
let folder: string
beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/strata-tools-')
  strata = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false' } })
  await writeFile(join(folder, 'in.tar'), await buffer(openFixture('docker20-odd.tar')))
})
beforeEach(async () => {
  for (const { id } of await strata.images()) await strata.request('DELETE', `/v1/images/${id}?force`)
})
afterAll(async () => {
  await strata.dispose()
  await rm(folder, { recursive: true, force: true })
})

function need(context: TestContext, ...tools: string[]): void {
  const absent = absentOf(tools)
  if (absent.length > 0) context.skip(`it needs ${absent.join(' and ')}`)
}
const run = (command: string, ...args: string[]) =>
  execFileSync(command, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' })
const skopeo = (...args: string[]) => run('skopeo', '--insecure-policy', '--tmpdir', folder, ...args)
const diffIds = async (name: string) =>
  (await strata.request('GET', `/v1/images/${encodeURIComponent(name)}`))
    .json<ImageView>()
    .layers.map(({ diffId }) => diffId.slice(7, 15))
const ODD = ['807953b6', '3782d6d3', '4689fcb4']

describe('archives that tools write', () => {
  it.for([
    [
      'docker-archive',
      'docker-archive:d.tar:fx/odd:3',
      { format: 'docker', writer: 'containers/image (podman, skopeo, buildah)' },
    ],
    ['oci-archive', 'oci-archive:o.tar:fx/odd:3', { format: 'oci' }],
  ] as const)('skopeo’s %s', async ([, target, found], context) => {
    need(context, 'skopeo')
    skopeo('copy', 'docker-archive:in.tar', target)
    const result = await strata.load(createReadStream(join(folder, target.split(':')[1]!)))
    expect(result).toMatchObject({ images: [{ names: ['fx/odd:3'], layers: 3 }], found })
    expect(await diffIds('fx/odd:3')).toEqual(ODD)
  })

  // Not zstd:chunked: skopeo 1.9 writes such layers that unpack, by zstd(1) too, to something else
  // than its config says.
  it.for(['zstd', 'gzip'])('skopeo’s layers by %s', async (compression, context) => {
    need(context, 'skopeo')
    skopeo('copy', '--dest-compress-format', compression, 'docker-archive:in.tar', `oci:${compression}:fx/odd:3`)
    expect(await strata.cli(['load', '-q', join(folder, compression)])).toMatchObject({ code: 0, stderr: '' })
    expect(await diffIds('fx/odd:3')).toEqual(ODD)
  })

  it('umoci’s layout, with a layer of its own on top', async (context) => {
    need(context, 'skopeo', 'umoci')
    skopeo('copy', 'docker-archive:in.tar', 'oci:umoci:3')
    await mkdir(join(folder, 'tree'))
    await writeFile(join(folder, 'tree', 'added'), 'by umoci')
    run('umoci', 'insert', '--image', 'umoci:3', join(folder, 'tree'), '/added')
    expect(await strata.cli(['load', '-q', '--name', 'fx/umoci', join(folder, 'umoci')])).toMatchObject({ code: 0 })
    expect(await diffIds('fx/umoci:3')).toEqual([...ODD, expect.any(String)])
  })
})

describe('an image with all its platforms', () => {
  const several = async () => {
    const layout = new TestLayout()
    const index = layout.index([await layout.image('amd64'), await layout.image('arm64')])
    const answer = await strata.request(
      'POST',
      '/v1/images?platform=all',
      Readable.from([
        await layout.tar([{ ...index, annotations: { 'io.containerd.image.name': 'docker.io/fx/many:1' } }]),
      ]),
    )
    expect(answer.status).toBe(201)
    return index
  }

  it.for(['oci', 'docker'])(
    'saved as %s is read by skopeo with its digest, and comes back by it',
    async (format, context) => {
      need(context, 'skopeo')
      const index = await several()
      const file = join(folder, `many-${format}.tar`)
      expect(await strata.cli(['save', '--format', format, '-o', file, 'fx/many:1'])).toMatchObject({ code: 0 })
      const name = `again-${format}`
      skopeo('copy', '--all', '--preserve-digests', `oci-archive:${file}:1`, `oci:${name}:fx/many:2`)
      expect(await strata.cli(['load', '-q', '--platform', 'all', join(folder, name)])).toMatchObject({ code: 0 })
      expect((await strata.images()).map(({ digest, names }) => ({ digest, names }))).toEqual([
        { digest: index.digest, names: ['fx/many:1', 'fx/many:2'] },
      ])
      if (format === 'docker')
        expect(skopeo('inspect', '--config', `docker-archive:${file}:fx/many:1`)).toMatch(/"architecture": *"amd64"/)
    },
  )
})
