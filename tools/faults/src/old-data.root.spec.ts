import { createHash } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { ContainerView, ImageSummary, ImageView, JobView } from '@strata/api'
import type { Failpoint } from '@strata/base'
import { Repositories } from '@strata/images'
import { parseReference, type Digest } from '@strata/oci'
import { objectsOf, StrataUnderTest, unfinished, until } from '@strata/e2e/testing'
import { TestS3 } from '@strata/store/testing'
import { afterEach, expect, it } from 'vitest'
import { onEachStore, triesAll } from './testing/each-store.js'
import { OLD_ENVIRONMENT, OLD_RELEASES, unpackOldData, type OldAnswers } from './testing/old-data.js'
import { Orders } from './testing/orders.js'
import { SERVICES } from './testing/world.js'

const ENDS = ['completed', 'failed', 'cancelled']
const ref = encodeURIComponent

// Fixtures have one node, so they cannot run at once.
const oneByOne = { oneByOne: true }
onEachStore(
  'on %s, data of an older release',
  (kind) => {
    const open: { strata?: StrataUnderTest; s3?: TestS3; orders?: Orders } = {}
    let old: OldAnswers
    afterEach(async () => {
      await open.strata?.dispose()
      await open.s3?.remove()
      open.orders?.remove()
    })

    async function begin(release: (typeof OLD_RELEASES)[number], started: boolean): Promise<StrataUnderTest> {
      const s3 = kind === 'folder' ? undefined : await TestS3.start('minio', '/var/tmp')
      const orders = new Orders()
      Object.assign(open, { s3, orders })
      open.strata = await StrataUnderTest.start({
        topology: 'standalone',
        store: s3 ?? 'folder',
        environment: { ...OLD_ENVIRONMENT, ...orders.environment },
        started,
        prepare: async (data) => {
          old = await unpackOldData(release, data, s3)
        },
      })
      return open.strata
    }

    it.each(OLD_RELEASES)('of %s are as they were', async (release) => {
      const strata = await begin(release, true)
      await isAsItWas(strata, old)
    })

    it.each(OLD_RELEASES)('of %s are as they were, however often the first start dies', async (release) => {
      const strata = await begin(release, false)
      // Each on what the one before it has left. A start brings the data folder to its version,
      // then the store, the node's folder and Redis.
      // Only of the store a bucket has another part.
      const ofTheStore: [Failpoint, number][] = [
        ['migrate.locked', 2],
        ['migrate.changed', 1],
        ['migrate.changed', 2],
        ['migrate.ran', 1],
      ]
      const deaths: [Failpoint, number][] = triesAll(kind)
        ? [
            ['migrate.locked', 1],
            ...ofTheStore,
            ['migrate.noted', 1],
            ['migrate.locked', 1],
            ['migrate.locked', 2],
            ['extract.fetched', 1],
            ['load.committing', 1],
          ]
        : ofTheStore
      for (const [failpoint, nth] of deaths) {
        open.orders?.give(failpoint, 'SIGKILL', { nth })
        await strata.startGroup(SERVICES, true)
        await open.orders?.taken(failpoint)
        await strata.stop('SIGKILL')
      }
      // And as soon as it listens, and when it is ready.
      for (const state of triesAll(kind) ? ['listening', 'ready'] : []) {
        await strata.startGroup(SERVICES, true)
        if (state === 'ready') await strata.ready()
        await strata.stop('SIGKILL')
      }
      await strata.startGroup(SERVICES, true)
      await strata.ready()
      await isAsItWas(strata, old, { wasKilled: true })
    })
  },
  oneByOne,
)

/**
 * Everything that the old release said of its data, and what it had still to do. `wasKilled`: a
 * death in the middle of the launch ends it, and its container says so.
 */
async function isAsItWas(strata: StrataUnderTest, old: OldAnswers, { wasKilled = false } = {}): Promise<void> {
  const get = async <T>(path: string): Promise<T> => {
    const answer = await strata.request('GET', path)
    expect({ path, status: answer.status, body: answer.bytes.toString('utf8', 0, 300) }).toMatchObject({ status: 200 })
    return answer.json<T>()
  }
  const job = (id: string): Promise<JobView> => get(`/v1/jobs/${id}`)
  for (const id of Object.values(old.jobs))
    await until(async () => ENDS.includes((await job(id)).state), `the job ${id} ends`)
  expect(await job(old.jobs.load)).toMatchObject({
    state: 'completed',
    result: { images: [{ names: ['old/late:1'] }] },
  })
  const launch = await job(old.jobs.launch)
  expect(launch).toMatchObject({ container: old.containers.created })
  expect(await job(old.jobs.unfinished)).toMatchObject({ state: 'failed', error: { code: 'upload_interrupted' } })

  const images = await strata.images()
  expect(images.flatMap(({ names }) => names).sort()).toEqual(
    [...old.lists.flatMap(({ names }) => names), 'old/late:1'].sort(),
  )
  for (const { view, archive } of old.images) {
    const name = view.names[0] ?? view.digest
    expect(await get<ImageView>(`/v1/images/${ref(name)}`)).toMatchObject(view)
    const { bytes } = await strata.request('GET', `/v1/archive?image=${ref(name)}`)
    expect(createHash('sha256').update(bytes).digest('hex'), name).toBe(archive)
  }

  await hasRepositories(strata, images)

  const container = (id: string): Promise<ContainerView> => get(`/v1/containers/${id}`)
  const logs = async (id: string): Promise<string> =>
    (await strata.request('GET', `/v1/containers/${id}/logs?stream=stdout`)).bytes.toString()
  await until(async () => (await container(old.containers.created)).state === 'exited', 'the placed container has run')
  expect(await container(old.containers.ended)).toMatchObject({ name: 'ended', state: 'exited', exitCode: 7 })
  expect(await container(old.containers.running)).toMatchObject({ name: 'running', state: 'exited', exitCode: 255 })
  const created = await container(old.containers.created)
  if (wasKilled && created.exitCode === 125) expect(created).toMatchObject({ reason: 'start interrupted' })
  else {
    expect({ launch, created }).toMatchObject({ launch: { state: 'completed' }, created: { exitCode: 7 } })
    expect(await logs(created.id)).toBe(old.logs)
  }
  for (const id of [old.containers.ended, old.containers.running]) expect(await logs(id)).toBe(old.logs)
  const run = await strata.cli(['run', '--rm', 'old/hello:1'])
  expect({ code: run.code, stdout: run.stdout.toString() }).toEqual({ code: 7, stdout: old.logs })

  // An image with a container is in use; a collection takes nothing that is named, and then all.
  expect((await strata.request('DELETE', `/v1/images/${ref('old/base:1')}`)).status).toBe(409)
  await until(async () => (await unfinished(strata)).length === 0, 'nothing is left of an upload')
  const before = await objectsOf(strata, 'blobs/', 'images/', 'data/')
  expect((await strata.request('POST', '/v1/gc', {})).status).toBe(200)
  expect(await objectsOf(strata, 'blobs/', 'images/', 'data/')).toEqual(before)
  for (const { id } of await strata.containers())
    expect((await strata.request('DELETE', `/v1/containers/${id}`)).status).toBe(204)
  for (const name of images.flatMap(({ names }) => names))
    expect((await strata.request('DELETE', `/v1/images/${ref(name)}`)).status).toBe(200)
  expect((await strata.request('POST', '/v1/gc', {})).status).toBe(200)
  expect(await objectsOf(strata, 'blobs/', 'images/', 'data/', 'uploads/', 'index/')).toEqual([])
  const kept = readdirSync(join(strata.node.folder, 'layers')).filter((name) => /^[0-9a-f]{64}$/.test(name))
  expect(kept).toEqual([])
}

/** What a registry asks for is there of every name: its tag, its manifest, its blobs. */
async function hasRepositories(strata: StrataUnderTest, images: readonly Pick<ImageSummary, 'names'>[]): Promise<void> {
  const repositories = new Repositories(await strata.store())
  const named = images.flatMap(({ names }) => names.map(parseReference))
  const catalog = (await repositories.page(100)).repositories
  expect(catalog.toSorted()).toEqual([...new Set(named.map(({ repository }) => repository))].sort())
  for (const { repository, tag } of named) {
    const digest = (await repositories.tags.get(repository, tag!))!.digest
    const manifest = await repositories.manifests.get(repository, digest)
    const parsed = JSON.parse(manifest!.bytes.toString()) as Partial<Record<'config' | 'layers' | 'manifests', unknown>>
    const parts = [parsed.config ?? [], parsed.layers ?? []].flat() as { digest: Digest }[]
    for (const part of parts) expect(await repositories.blobs.has(repository, part.digest)).toBe(true)
    for (const child of (parsed.manifests ?? []) as { digest: Digest }[])
      expect((await repositories.manifests.get(repository, child.digest))?.digest).toBe(child.digest)
  }
}
