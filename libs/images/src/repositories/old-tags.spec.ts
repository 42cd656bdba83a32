import { digestOf, type Digest } from '@strata/oci'
import { listAll } from '@strata/store'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { imageOf, PushingClient, repositoryOf } from '../testing/pushing-client.js'
import { STORE_KINDS, TestRegistry } from '../testing/test-registry.js'
import { Repositories } from './repositories.js'

const [app, other] = [repositoryOf('team/app'), repositoryOf('team/app/other')]

describe.each(STORE_KINDS)('what an older version has loaded on %s', (kind) => {
  let registry: TestRegistry
  const [one, two] = [imageOf(['one']), imageOf(['two'])]
  beforeEach(async () => {
    registry = await TestRegistry.open(kind)
    await registry.load(one, 'team/app:1', 'team/app:2')
    await registry.load(two, 'team/app/other:1')
    // As an older version left it: tags alone.
    for await (const { key } of listAll(registry.store, ''))
      if (/_digests\/|^repositories\/|^image-names\//.test(key)) await registry.store.delete([key])
  })
  afterEach(() => registry.dispose())

  it('is in its repository before the storage service has looked at it, and afterwards', async () => {
    const { bytes, digest, mediaType, size } = one.manifest
    const check = async () => {
      const { manifests, blobs, tags, ...rest } = new Repositories(registry.store)
      expect(await manifests.get(app, digest)).toEqual({ digest, mediaType, size, bytes })
      expect(await manifests.has(app, digest)).toBe(true)
      expect(await manifests.stat(other, digest)).toBeUndefined()
      for (const blob of one.blobs) {
        expect(await blobs.has(app, blob.digest)).toBe(true)
        expect(await blobs.has(other, blob.digest)).toBe(one.id === two.id)
      }
      expect(await blobs.has(app, digest)).toBe(false)
      expect(await blobs.has(app, digestOf('never'))).toBe(false)
      expect((await manifests.page(app, 10)).digests).toEqual([digest])
      expect((await tags.page(app, 10)).tags).toEqual(['1', '2'])
      expect(rest).toBeDefined()
      const pages: string[] = []
      let after: Awaited<ReturnType<Repositories['page']>>['next']
      do {
        const page = await new Repositories(registry.store).page(1, after)
        pages.push(...page.repositories)
        after = page.next
      } while (after !== undefined)
      expect(pages).toEqual([app, other])
    }
    await check()
    await registry.images.markNames()
    await check()
  })

  it('keeps the parts of an index that was loaded', async () => {
    const { arm } = await registry.loadIndex('team/app:all')
    for await (const { key } of listAll(registry.store, ''))
      if (/_digests\/|^repositories\/|^image-names\//.test(key)) await registry.store.delete([key])
    const { manifests, blobs } = new Repositories(registry.store)
    expect(await manifests.get(app, arm.manifest.digest)).toMatchObject({ bytes: arm.manifest.bytes })
    expect(await blobs.has(app, arm.id)).toBe(true)
  })

  it('can be pushed again without its blobs, and deleted', async () => {
    const { manifest } = one
    await new PushingClient(registry.store).under(async (run) => {
      const { manifests } = new Repositories(registry.store)
      await manifests.put(app, manifest.digest, manifest.bytes, manifest.mediaType, run)
      await expect(
        manifests.put(other, manifest.digest, manifest.bytes, manifest.mediaType, run),
      ).rejects.toMatchObject({ code: 'layer_missing' })
    })
    const { manifests, tags } = new Repositories(registry.store)
    const deleted: Digest[] = [manifest.digest, two.manifest.digest]
    expect(await Promise.all([app, other].map((name, at) => manifests.delete(name, deleted[at]!)))).toEqual([
      true,
      true,
    ])
    expect([(await tags.page(app, 10)).tags, (await tags.page(other, 10)).tags]).toEqual([[], []])
    expect(await manifests.delete(app, manifest.digest)).toBe(false)
  })
})
