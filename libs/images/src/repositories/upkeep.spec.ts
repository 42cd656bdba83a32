import { keys, RepositoryNames } from '@strata/store'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Images } from '../images.js'
import { imageOf, repositoryOf, tagOf } from '../testing/pushing-client.js'
import { STORE_KINDS, TestRegistry } from '../testing/test-registry.js'

const app = repositoryOf('team/app')

/** What holds the blobs of a manifest again, and brings no bytes. */
const BRINGS_NO_BYTES = {
  'a start after a loss of power': async ({ store }: TestRegistry) => {
    await store.delete([keys.allManifestsKept])
    await new Images(store).markNames()
  },
  'another tag': async ({ images }: TestRegistry) => {
    await images.tag('team/app:1', 'team/app:2')
  },
  'a move of the tag of a manifest without its record': async (registry: TestRegistry) => {
    const { digest } = (await registry.repositories.tags.get(app, tagOf('1')))!
    await registry.store.delete([keys.imageDigest(app, digest)])
    await registry.client.push(app, imageOf(['another']), '1')
    expect(await registry.repositories.manifests.stat(app, digest)).toBeDefined()
  },
}

describe.each(STORE_KINDS)('a collection on %s', (kind) => {
  let registry: TestRegistry
  beforeEach(async () => {
    registry = await TestRegistry.open(kind)
  })
  afterEach(() => registry.dispose())

  it('gives a repository its key back that a collector, which died, has left without', async () => {
    await registry.client.push(app, imageOf(['one']), '1')
    await registry.client.push(repositoryOf('other'), imageOf(['two']), '1')
    await registry.store.delete([keys.repository(app)])
    expect((await registry.repositories.page(10)).repositories).not.toContain(app)
    await registry.collect()
    expect((await registry.repositories.page(10)).repositories).toContain(app)
    for await (const { repository, etag } of new RepositoryNames(registry.store).list())
      expect(await new RepositoryNames(registry.store).retire(repository, etag)).toBe(false)
  })

  it('gives an entry by digest that a service of an older version has written the keys of its blobs', async () => {
    const image = imageOf(['one'])
    const { digest } = image.manifest
    await registry.load(image, 'team/app:1')
    await registry.load(imageOf(['two']), 'team/app:1')
    // As d5153a4 wrote it: without marks, and there are no keys of blobs.
    const key = keys.imageDigest(app, digest)
    const { etag } = (await registry.store.stat(key))!
    const record = JSON.parse((await registry.store.read(key, 10_000))!.bytes.toString()) as { value: object }
    const value = { ...record.value, mark: undefined }
    expect(await registry.store.replace(key, Buffer.from(JSON.stringify({ rev: 'old', value })), etag)).toBeDefined()
    await registry.store.delete(image.blobs.map((blob) => keys.repositoryBlob(app, blob.digest)))
    expect(await registry.repositories.blobs.has(app, image.id)).toBe(false)
    await registry.collect()
    for (const blob of image.blobs) expect(await registry.repositories.blobs.has(app, blob.digest)).toBe(true)
    expect((await registry.images.inspect(digest)).names).toEqual([])
  })

  it.each(Object.entries(BRINGS_NO_BYTES))('leaves a blob deleted behind %s', async (_, act) => {
    const image = imageOf(['a secret'])
    const { digest } = image.blobs[1]!
    const { blobs } = registry.repositories
    await registry.client.push(app, image, '1')
    expect(await blobs.delete(app, digest)).toBe(true)
    await act(registry)
    expect(await blobs.has(app, digest)).toBe(false)
    // The lease of the act is over: the collection takes it out of the key.
    await registry.collect()
    expect(await blobs.has(app, digest)).toBe(false)
    // What cannot be read keeps what its repository has keys of, deleted or not.
    expect(await registry.store.stat(keys.repositoryBlob(app, digest))).toBeDefined()
    expect(await blobs.has(app, image.id)).toBe(true)
    await registry.client.push(app, image, '1')
    expect(await blobs.has(app, digest)).toBe(true)
  })

  it('gives a repository that was without the manifest what a tag brings, deleted there before or not', async () => {
    const image = imageOf(['a secret'])
    const { digest } = image.blobs[1]!
    const { blobs, manifests } = registry.repositories
    await registry.client.push(repositoryOf('other'), image, '1')
    await registry.client.push(app, image, '1')
    expect(await blobs.delete(app, digest)).toBe(true)
    expect(await manifests.delete(app, image.manifest.digest)).toBe(true)
    expect(await blobs.has(app, digest)).toBe(false)
    await registry.images.tag('other:1', 'team/app:2')
    expect(await blobs.has(app, digest)).toBe(true)
    await registry.collect()
    expect(await blobs.has(app, digest)).toBe(true)
  })
})
