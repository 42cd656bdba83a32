import { BlobStore, keys, piecesOf, type ObjectStore } from '@strata/store'
import { stopAt } from '@strata/store/testing'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Images } from '../images.js'
import { Names } from '../names.js'
import { imageOf, indexOf, PushingClient, repositoryOf, tagOf } from '../testing/pushing-client.js'
import { STORE_KINDS, TestRegistry } from '../testing/test-registry.js'

const app = repositoryOf('team/app')

describe.each(STORE_KINDS)('an index whose children come later on %s', (kind) => {
  let registry: TestRegistry
  const [amd, arm] = [imageOf(['one'], {}, 'amd64'), imageOf(['two'], {}, 'arm64')]
  const index = indexOf([amd, arm])
  beforeEach(async () => {
    registry = await TestRegistry.open(kind)
  })
  afterEach(() => registry.dispose())
  const platforms = async (text: string) =>
    (await registry.images.resolve(text)).whole?.parts.map(({ platform }) => platform)

  it.each(['tag', 'digest'])(
    'is an image with its first, and has all when all are there; pushed by its %s',
    async (by) => {
      await registry.client.push(app, index, by === 'tag' ? 'all' : undefined)
      if (by === 'digest')
        await registry.client.under((run) =>
          registry.repositories.tags.set(app, tagOf('all'), index.manifest.digest, run),
        )
      await expect(registry.images.resolve('team/app:all')).rejects.toMatchObject({ code: 'not_an_image' })
      await registry.client.push(app, arm)
      expect(await platforms('team/app:all')).toEqual(['linux/arm64'])
      expect(await registry.images.inspect('team/app:all')).toMatchObject({ id: arm.id, names: ['team/app:all'] })
      await registry.client.push(app, amd)
      expect((await platforms('team/app:all'))?.sort()).toEqual(['linux/amd64', 'linux/arm64'])
      await registry.collect()
      expect(await registry.images.inspect('team/app:all')).toMatchObject({ id: amd.id })
      const all = { manifest: index.manifest, blobs: [] }
      for (const { manifest } of [all, amd, arm])
        expect(await registry.repositories.manifests.delete(app, manifest.digest)).toBe(true)
      await registry.collect()
      expect(await registry.left()).toEqual([])
    },
  )

  it('has a child again that was deleted, and put again', async () => {
    for (const image of [amd, arm]) await registry.client.push(app, image)
    await registry.client.push(app, index, 'all')
    await registry.repositories.manifests.delete(app, arm.manifest.digest)
    expect(await platforms('team/app:all')).toEqual(['linux/amd64'])
    await registry.client.push(app, arm)
    expect(await platforms('team/app:all')).toEqual(['linux/amd64', 'linux/arm64'])
  })

  it('that was put by its digest has a child that came later, also when that has lost its tag', async () => {
    const { client, repositories, images } = registry
    await client.push(app, amd)
    await client.push(app, index)
    await client.under((run) => repositories.tags.set(app, tagOf('all'), index.manifest.digest, run))
    await client.push(app, arm, 'arm')
    await registry.remove('team/app:arm')
    await registry.collect()
    expect(await repositories.manifests.get(app, arm.manifest.digest)).toMatchObject({ bytes: arm.manifest.bytes })
    expect(await platforms('team/app:all')).toEqual(['linux/amd64', 'linux/arm64'])
    expect(await repositories.manifests.delete(app, arm.manifest.digest)).toBe(true)
    expect(await platforms('team/app:all')).toEqual(['linux/amd64'])
    await images.tidyNames()
    expect(await repositories.manifests.stat(app, arm.manifest.digest)).toBeUndefined()
  })

  it('that cannot be read keeps no child from being put, and no upkeep from its end', async () => {
    const { client, store, images, repositories } = registry
    await client.push(app, index, 'all')
    const { data } = piecesOf((await new BlobStore(store).stat(index.manifest.digest))!)[0]!
    await store.delete([data])
    await store.put(data, Buffer.alloc(index.manifest.size))
    await client.push(app, amd, 'amd')
    expect(await repositories.manifests.stat(app, amd.manifest.digest)).toBeDefined()
    await images.tidyNames()
    await store.delete([keys.allManifestsKept])
    await images.markNames()
    // It still lacks the child, so that it gets it as soon as it can be read.
    await store.delete([data])
    await store.put(data, index.manifest.bytes)
    await images.tidyNames()
    expect(await platforms('team/app:all')).toEqual(['linux/amd64'])
  })

  it('that cannot be read is looked at once by a prune, not once for each of its children', async () => {
    const { client, store, repositories } = registry
    await client.push(app, index, 'all')
    const [{ data } = expect.fail()] = piecesOf((await new BlobStore(store).stat(index.manifest.digest))!)
    await store.delete([data])
    await store.put(data, Buffer.alloc(index.manifest.size))
    for (const image of [amd, arm]) {
      await client.push(app, image, image.architecture)
      expect(await repositories.tags.delete(app, tagOf(image.architecture))).toBe(true)
    }
    const images = new Images(store)
    const warnings = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
    const opened = vi.spyOn(BlobStore.prototype, 'read')
    try {
      for (const { manifest } of [amd, arm]) expect(await images.removeUntagged(manifest.digest)).toBe(false)
      expect(opened.mock.calls.filter(([digest]) => digest === index.manifest.digest)).toHaveLength(1)
    } finally {
      opened.mockRestore()
      warnings.mockRestore()
    }
    for (const { manifest } of [amd, arm]) expect(await repositories.manifests.stat(app, manifest.digest)).toBeDefined()
  })

  it('has a child that was put at the same time, whoever stood still', async () => {
    const { store, stop } = stopAt(registry.store, ['read'], keys.imageDigest(app, index.manifest.digest))
    const pushing = new PushingClient(store).push(app, index, 'all')
    await stop.reached
    for (const image of [amd, arm]) await registry.client.push(app, image)
    stop.goOn()
    await pushing
    expect(await platforms('team/app:all')).toEqual(['linux/amd64', 'linux/arm64'])
  })

  it('does not get a child back that was deleted while another came', async () => {
    const { client, repositories, store: all } = registry
    await client.push(app, amd)
    await client.push(app, index, 'all')
    // The child that comes has looked at the index, and writes its tag next.
    const { store, stop } = stopAt(all, ['read'], keys.tag(app, tagOf('all')))
    const pushing = new PushingClient(store).push(app, arm)
    await stop.reached
    expect(await repositories.manifests.delete(app, amd.manifest.digest)).toBe(true)
    stop.goOn()
    await pushing
    expect(await platforms('team/app:all')).toEqual(['linux/arm64'])
    expect(await repositories.manifests.stat(app, amd.manifest.digest)).toBeUndefined()
    await client.push(app, amd)
    expect((await platforms('team/app:all'))?.sort()).toEqual(['linux/amd64', 'linux/arm64'])
  })

  it.each(['has', 'lacks'])(
    'that %s a child does not get it back when it is deleted behind the look of another',
    async (which) => {
      const { client, repositories, store: all } = registry
      if (which === 'has') await client.push(app, amd)
      await client.push(app, index, 'all')
      if (which === 'lacks') {
        // Put by a process that died before it told the index.
        const quiet: ObjectStore['list'] = (prefix, options) =>
          prefix === keys.parentMarksOf(amd.manifest.digest, app)
            ? Promise.resolve({ objects: [] })
            : all.list(prefix, options)
        const untold = new Proxy(all, {
          get: (target, name) => {
            if (name === 'list') return quiet
            const member: unknown = Reflect.get(target, name, target)
            return typeof member === 'function' ? (member.bind(target) as unknown) : member
          },
        })
        await new PushingClient(untold).push(app, amd)
      }
      const { store, stop } = stopAt(all, ['replace'], keys.imageDigest(app, index.manifest.digest))
      const pushing = new PushingClient(store).push(app, arm)
      await stop.reached
      expect(await repositories.manifests.delete(app, amd.manifest.digest)).toBe(true)
      stop.goOn()
      await pushing
      expect(await platforms('team/app:all')).toEqual(['linux/arm64'])
      expect(await repositories.manifests.stat(app, amd.manifest.digest)).toBeUndefined()
      expect(await repositories.manifests.delete(app, amd.manifest.digest)).toBe(false)
    },
  )

  it('above an index that comes last does not get back what is deleted meanwhile', async () => {
    const { client, repositories, store: all } = registry
    const [below, top] = [{ ...index, architecture: 'amd64' }, indexOf([{ ...index, architecture: 'amd64' }])]
    for (const image of [amd, arm]) await client.push(app, image)
    await client.push(app, top, 'all')
    // The record of the one above has never named the children of the one that comes.
    const { store, stop } = stopAt(all, ['replace'], keys.imageDigest(app, top.manifest.digest))
    const pushing = new PushingClient(store).push(app, below)
    await stop.reached
    expect(await repositories.manifests.delete(app, amd.manifest.digest)).toBe(true)
    stop.goOn()
    await pushing
    expect(await repositories.manifests.stat(app, amd.manifest.digest)).toBeUndefined()
    expect(await repositories.manifests.stat(app, arm.manifest.digest)).toBeDefined()
    const { whole } = (await new Names(all).read(keys.tag(app, tagOf('all'))))!
    expect(whole?.parts.map(({ digest }) => digest).sort()).toEqual(
      [arm, below].map(({ manifest }) => manifest.digest).sort(),
    )
  })

  it('gets a child at a collection whose process died before it told the index', async () => {
    await registry.client.push(app, index, 'all')
    const { store } = registry
    const dying = new Proxy(store, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name, target)
        if (typeof member !== 'function') return member
        return (...args: unknown[]): unknown => {
          if (name === 'list' && args[0] === keys.parentMarksOf(amd.manifest.digest, app) && written)
            throw new Error('dead')
          if (['create', 'replace'].includes(String(name)) && args[0] === keys.imageDigest(app, amd.manifest.digest))
            written = true
          return (member as (...args: unknown[]) => unknown).apply(target, args)
        }
      },
    })
    let written = false
    await expect(new PushingClient(dying).push(app, amd)).rejects.toThrow('dead')
    expect(written).toBe(true)
    await expect(registry.images.resolve('team/app:all')).rejects.toMatchObject({ code: 'not_an_image' })
    await registry.collect()
    expect(await platforms('team/app:all')).toEqual(['linux/amd64'])
  })
})
