import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import type { ImageView, LoadResult } from '@strata/api'
import { TestLayout } from '@strata/archive/testing'
import type { Digest } from '@strata/oci'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { settledStore } from './testing/store-state.js'
import { StrataUnderTest } from './testing/strata.js'

let strata: StrataUnderTest
let folder: string
beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/strata-platforms-')
  strata = await StrataUnderTest.start()
})
afterAll(async () => {
  await strata.dispose()
  await rm(folder, { recursive: true, force: true })
})
afterEach(async () => {
  for (const { id } of await strata.images()) await strata.request('DELETE', `/v1/images/${id}?force`)
})

const OTHER = process.arch === 'x64' ? 'arm64' : 'amd64'
const HOST = process.arch === 'x64' ? 'amd64' : 'arm64'

/** Two platforms in an index, an attestation in that, a signature beside it. */
async function several() {
  const layout = new TestLayout()
  const [host, other] = [await layout.image(HOST), await layout.image(OTHER, undefined, (tar) => gzipSync(tar))]
  const attestation = {
    ...layout.artifact(undefined, 'attested'),
    platform: { os: 'unknown', architecture: 'unknown' },
    annotations: { 'vnd.docker.reference.type': 'attestation-manifest' },
  }
  const index = layout.index([other, host, attestation], { annotations: { 'org.opencontainers.image.title': 'kept' } })
  const signature = layout.artifact(index)
  const top = [{ ...index, annotations: { 'io.containerd.image.name': 'docker.io/fx/many:1' } }, signature]
  return {
    layout,
    host,
    other,
    index,
    top,
    blobs: [host, other, attestation, index, signature].map(({ digest }) => digest),
  }
}
const load = async (bytes: Buffer, query = '') => {
  const answer = await strata.request('POST', `/v1/images${query}`, Readable.from([bytes]))
  return { status: answer.status, body: answer.json<LoadResult & { code?: string; detail?: string }>() }
}
const image = async (query = '') =>
  (await strata.request('GET', `/v1/images/${encodeURIComponent('fx/many:1')}${query}`)).json<ImageView>()

describe('an archive with several platforms', () => {
  it('gives this machine’s, or the one that is asked for, or says what there is', async () => {
    const { layout, top, host, other } = await several()
    const bytes = await layout.tar(top)
    expect((await load(bytes)).body.images).toMatchObject([{ id: host.id, digest: host.digest, names: ['fx/many:1'] }])
    const file = join(folder, 'several.tar')
    await writeFile(file, bytes)
    expect(await strata.cli(['load', '-q', '--platform', `linux/${OTHER}`, file])).toMatchObject({
      code: 0,
      stderr: '',
    })
    expect(await image()).toMatchObject({ id: other.id, digest: other.digest, architecture: OTHER })
    expect(await strata.cli(['load', '-q', '--platform', 'linux/s390x', file])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(
        `the archive has the image for linux/${OTHER}, linux/${HOST}, but not for linux/s390x`,
      ) as string,
    })
    expect((await load(bytes, '?platform=arm64')).body).toMatchObject({ code: 'bad_request' })
  })

  it('is kept with all of them: one image, which runs, is saved as it came, and goes with its last name', async () => {
    const { layout, top, host, other, index, blobs } = await several()
    const { status, body } = await load(await layout.tar(top), '?platform=all')
    expect({ status, images: body.images }).toMatchObject({
      status: 201,
      images: [{ id: host.id, digest: index.digest, names: ['fx/many:1'] }],
    })
    expect(await strata.images()).toMatchObject([
      { id: host.id, digest: index.digest, platforms: [`linux/${HOST}`, `linux/${OTHER}`] },
    ])
    expect(await image()).toMatchObject({ id: host.id, architecture: HOST, layers: [{ digest: host.layer }] })
    expect(await image(`?platform=linux/${OTHER}`)).toMatchObject({
      id: other.id,
      architecture: OTHER,
      layers: [{ digest: other.layer }],
    })
    const mounted = await strata.cli(['mount', 'fx/many:1'])
    expect(await readFile(join(mounted.stdout.toString().trim(), 'platform'), 'utf8')).toBe(HOST)
    expect(await strata.cli(['umount', 'fx/many:1'])).toMatchObject({ code: 0 })

    for (const format of ['oci', 'docker']) {
      const { stdout } = await strata.cli(['save', '--format', format, 'fx/many:1'])
      for (const digest of blobs) expect(stdout.includes(pathOf(digest)), digest).toBe(true)
      await strata.request('DELETE', `/v1/images/${host.id}?force`)
      expect((await load(stdout, '?platform=all')).body.images).toMatchObject([
        { digest: index.digest, names: ['fx/many:1'] },
      ])
      expect((await strata.cli(['save', '--format', format, 'fx/many:1'])).stdout.equals(stdout)).toBe(true)
    }
    const one = await strata.cli(['save', '--platform', `linux/${OTHER}`, 'fx/many:1'])
    expect(blobs.filter((digest) => one.stdout.includes(pathOf(digest)))).toEqual([other.digest])

    expect((await strata.cli(['rmi', 'fx/many:1'])).stdout.toString()).toContain(host.id)
    expect(await strata.cli(['system', 'prune', '-f'])).toMatchObject({ code: 0 })
    expect(await settledStore(strata)).toEqual([])
  })

  it('of a sparse one what is here is kept under the index’s digest, and the rest may come later', async () => {
    const { layout, top, host, other, index } = await several()
    expect((await load(await layout.tar(top, [host.digest]), '?platform=all')).body.images).toMatchObject([
      { id: other.id, digest: index.digest, platforms: [`linux/${OTHER}`], missing: [`linux/${HOST}`] },
    ])
    expect(await strata.images()).toMatchObject([{ platforms: [`linux/${OTHER}`] }])
    expect((await load(await layout.tar(top, [other.digest]), '?platform=all')).body.images).toMatchObject([
      { id: host.id, digest: index.digest },
    ])
    expect((await strata.images()).map(({ digest, platforms }) => [digest, platforms?.sort()])).toEqual([
      [index.digest, [`linux/${HOST}`, `linux/${OTHER}`].sort()],
    ])
    expect(await image(`?platform=linux/${OTHER}`)).toMatchObject({ id: other.id })
  })
})

function pathOf(digest: Digest): string {
  return `blobs/${digest.replace(':', '/')}`
}
