import { keys, RepositoryNames } from '@strata/store'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { imageOf, repositoryOf } from '../testing/pushing-client.js'
import { STORE_KINDS, TestRegistry } from '../testing/test-registry.js'

const app = repositoryOf('team/app')

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
})
