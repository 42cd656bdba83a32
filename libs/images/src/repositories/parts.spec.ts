import { tagOf, imageOf, indexOf, repositoryOf } from '../testing/pushing-client.js'
import { STORE_KINDS, TestRegistry } from '../testing/test-registry.js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const app = repositoryOf('team/app')

describe.each(STORE_KINDS)('a part of an index on %s', (kind) => {
  let registry: TestRegistry
  beforeEach(async () => {
    registry = await TestRegistry.open(kind)
  })
  afterEach(() => registry.dispose())
  const platforms = async (text: string) =>
    (await registry.images.resolve(text)).whole?.parts.map(({ platform }) => platform)

  it.each(['loaded', 'pushed'])(
    'that was %s is gone when it was deleted by its digest; the rest stays',
    async (how) => {
      const { manifests } = registry.repositories
      let made: Awaited<ReturnType<TestRegistry['loadIndex']>>
      if (how === 'loaded') made = await registry.loadIndex('team/app:all')
      else {
        const [amd, arm] = [imageOf(['one'], {}, 'amd64'), imageOf(['two'], {}, 'arm64')]
        made = { amd, arm, index: indexOf([amd, arm]) }
        for (const image of [amd, arm]) await registry.client.push(app, image)
        await registry.client.push(app, made.index, 'all')
      }
      const { amd, arm, index } = made
      await registry.client.under(async (run) => {
        await registry.repositories.tags.set(app, tagOf('again'), index.manifest.digest, run)
      })
      expect(await manifests.delete(app, arm.manifest.digest)).toBe(true)
      expect(await manifests.get(app, arm.manifest.digest)).toBeUndefined()
      expect(await manifests.delete(app, arm.manifest.digest)).toBe(false)
      for (const tag of ['all', 'again']) expect(await platforms(`team/app:${tag}`)).toEqual(['linux/amd64'])
      expect(await manifests.get(app, index.manifest.digest)).toMatchObject({ bytes: index.manifest.bytes })
      await registry.collect()
      expect(await registry.images.inspect('team/app:all')).toMatchObject({ id: amd.id, size: 3 })
      expect(await manifests.get(app, amd.manifest.digest)).toMatchObject({ bytes: amd.manifest.bytes })
      for (const { digest } of arm.blobs) expect(await registry.repositories.blobs.has(app, digest)).toBe(false)

      // The index has no image any more, and is kept all the same.
      expect(await manifests.delete(app, amd.manifest.digest)).toBe(true)
      await expect(registry.images.inspect('team/app:all')).rejects.toMatchObject({ code: 'not_an_image' })
      expect(await manifests.get(app, index.manifest.digest)).toMatchObject({ bytes: index.manifest.bytes })
      expect(await manifests.delete(app, index.manifest.digest)).toBe(true)
      await registry.collect()
      expect(await registry.left()).toEqual([])
    },
  )

  it('that is used when no platform is asked for has another in its place', async () => {
    const { amd, arm } = await registry.loadIndex('team/app:all')
    await registry.repositories.manifests.delete(app, amd.manifest.digest)
    expect(await registry.images.inspect('team/app:all')).toMatchObject({ id: arm.id })
  })

  it('that is damaged can be deleted', async () => {
    const { arm } = await registry.loadIndex('team/app:all')
    for (const { digest } of [arm.manifest, ...arm.blobs])
      await registry.store.delete([`blobs/sha256/${digest.slice(7)}`])
    expect(await registry.repositories.manifests.delete(app, arm.manifest.digest)).toBe(true)
    expect(await platforms('team/app:all')).toEqual(['linux/amd64'])
  })
})
