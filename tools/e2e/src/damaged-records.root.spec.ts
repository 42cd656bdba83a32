import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { makeArchive } from '@strata/archive/testing'
import type { ImageView, JobView } from '@strata/api'
import { keys, Leases } from '@strata/store'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { busyboxLayer } from './testing/busybox-image.js'
import { objectsOf, unfinished } from './testing/store-state.js'
import { StrataUnderTest, until } from './testing/strata.js'
import { unfinishedBody } from './testing/unfinished-body.js'

/** Records in the store that cannot be read, seen from outside. */
let strata: StrataUnderTest
let archive: (name: string) => Promise<Buffer>
beforeAll(async () => {
  strata = await StrataUnderTest.start()
  archive = async (name) => makeArchive({ names: [name], layers: [await busyboxLayer()], config: { Labels: { name } } })
  for (const name of ['t/one:1', 't/two:1']) await strata.load(Readable.from([await archive(name)]))
})
afterAll(() => strata.dispose())

const damage = async (key: string, bytes = ''): Promise<void> => {
  const store = await strata.store()
  const { etag } = (await store.stat(key))!
  expect(await store.replace(key, Buffer.from(bytes), etag)).toBeDefined()
}
const NAME = 'images/docker.io/t/one/_tags/1'

it('a damaged name stops no other, nor its own removal or a load over it; a collection names it', async () => {
  for (const way of ['load', 'rmi', 'tag']) {
    await damage(NAME)
    const images = await strata.cli(['images'])
    expect(images).toMatchObject({ code: 0, stderr: '' })
    expect(images.stdout.toString()).toContain('t/two')
    expect(images.stdout.toString()).not.toContain('t/one')
    expect(await strata.cli(['system', 'df'])).toMatchObject({ code: 0 })
    const prune = await strata.cli(['system', 'prune', '-f'])
    expect(prune).toMatchObject({ code: 1, stderr: expect.stringContaining('strata rmi t/one:1') as string })
    expect(prune.stdout.toString()).toContain('Total reclaimed space')
    expect(prune.stdout.toString()).not.toContain('blobs')
    if (way === 'load') await strata.load(Readable.from([await archive('t/one:1')]))
    if (way === 'rmi') expect(await strata.cli(['rmi', 't/one:1'])).toMatchObject({ code: 0 })
    if (way === 'tag') expect(await strata.cli(['tag', 't/two:1', 't/one:1'])).toMatchObject({ code: 0 })
    expect(await strata.cli(['system', 'prune', '-f'])).toMatchObject({ code: 0 })
    expect((await strata.images()).flatMap(({ names }) => names)).toEqual(
      way === 'rmi' ? ['t/two:1'] : expect.anything(),
    )
    if (way === 'rmi') await strata.load(Readable.from([await archive('t/one:1')]))
  }
})

it('a damaged blob is whole again when it is loaded again', async () => {
  const { layers } = (await strata.request('GET', '/v1/images/t%2Ftwo:1')).json<ImageView>()
  await damage(`blobs/${layers[0]!.digest.replace(':', '/')}`, '{')
  await strata.load(Readable.from([await archive('t/two:1')]))
  expect(await strata.cli(['run', '--rm', '--network', 'none', 't/two:1', 'true'])).toMatchObject({ code: 0 })
  expect(await strata.cli(['system', 'prune', '-f'])).toMatchObject({ code: 0 })
})

it('a damaged upload is ended, and keeps no other from its end', async () => {
  const [damaged, other] = [randomUUID(), randomUUID()]
  const bodies = [damaged, other].map((id) => {
    const body = unfinishedBody()
    return { id, body, answer: strata.request('POST', `/v1/images?job=${id}`, body) }
  })
  await until(async () => (await objectsOf(strata, 'uploads/')).length === 2, 'both uploads are there')
  const store = await strata.store()
  await damage(keys.lease(await new Leases(store).idOf(damaged)), '{"rev":')
  for (const { body } of bodies) body.destroy()
  await Promise.allSettled(bodies.map(({ answer }) => answer))
  await until(async () => (await store.list('uploads/')).objects.length === 0, 'both uploads are ended', 40)
  await until(async () => (await unfinished(strata)).length === 0, 'nothing is left of either', 40)
  expect((await strata.request('GET', `/v1/jobs/${damaged}`)).json<JobView>().state).toBe('failed')
})
