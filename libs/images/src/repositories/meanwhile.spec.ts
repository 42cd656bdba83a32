import { digestOf, MEDIA, parseTagged, type Repository } from '@strata/oci'
import { BlobStore, keys, Leases, type ObjectStore } from '@strata/store'
import { stopAt } from '@strata/store/testing'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Images } from '../images.js'
import { Names } from '../names.js'
import { imageOf, indexOf, PushingClient, repositoryOf, tagOf } from '../testing/pushing-client.js'
import { STORE_KINDS, TestRegistry } from '../testing/test-registry.js'

const app = repositoryOf('team/app')

/** The store, for one who does other work before its call number `at` of `read` with that key. */
function beforeRead(store: ObjectStore, key: string, at: number, work: () => Promise<unknown>): ObjectStore {
  let count = 0
  const read: ObjectStore['read'] = async (of, maxBytes) => {
    if (of === key && ++count === at) await work()
    return store.read(of, maxBytes)
  }
  return new Proxy(store, {
    get: (target, name) => {
      const member: unknown = name === 'read' ? read : Reflect.get(target, name, target)
      return typeof member === 'function' ? (member.bind(target) as unknown) : member
    },
  })
}

/** The store, for one who does other work before its call number `at`. */
function beforeCall(store: ObjectStore, at: number, work: () => Promise<unknown>): ObjectStore {
  let count = 0
  return new Proxy(store, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      return (...args: unknown[]): unknown => {
        const call = (): unknown => (member as (...args: unknown[]) => unknown).apply(target, args)
        return ++count === at ? work().then(call) : call()
      }
    },
  })
}

describe.each(STORE_KINDS)('what others do meanwhile on %s', (kind) => {
  let registry: TestRegistry
  beforeEach(async () => {
    registry = await TestRegistry.open(kind)
  })
  afterEach(() => registry.dispose())

  it.each([1, 2, 3, 4, 5])(
    'a push by a tag is done, though a removal takes the manifest away before its read %i of the record',
    async (at) => {
      const image = imageOf(['one'])
      const { digest } = image.manifest
      await registry.client.push(app, image, 'old')
      const store = beforeRead(registry.store, keys.imageDigest(app, digest), at, () => registry.remove('team/app:old'))
      await new PushingClient(store).push(app, image, '1')
      expect(await registry.repositories.tags.get(app, tagOf('1'))).toMatchObject({ digest })
      expect(await registry.repositories.manifests.get(app, digest)).toMatchObject({ bytes: image.manifest.bytes })
      await registry.collect()
      expect(await registry.images.inspect('team/app:1')).toMatchObject({ id: image.id })
    },
  )

  it('an index is never visible with a child that was deleted, and collected, before', async () => {
    const [amd, arm] = [imageOf(['one'], {}, 'amd64'), imageOf(['two'], {}, 'arm64')]
    const index = indexOf([amd, arm])
    for (const image of [amd, arm]) await registry.client.push(app, image)
    const { store, stop } = stopAt(registry.store, ['read'], keys.imageDigest(app, index.manifest.digest))
    const pushing = new PushingClient(store).push(app, index, 'all')
    await stop.reached
    await registry.repositories.manifests.delete(app, arm.manifest.digest)
    await registry.collect()
    stop.goOn()
    await pushing
    await registry.collect()
    for (const { digest } of (await registry.images.resolve('team/app:all')).whole?.parts ?? [])
      expect(await registry.repositories.manifests.get(app, digest)).toBeDefined()
    expect((await registry.images.contents('team/app:all')).whole?.layers.length).toBeGreaterThan(0)
  })

  const [amd, arm] = [imageOf(['one'], {}, 'amd64'), imageOf(['two'], {}, 'arm64')]
  const index = indexOf([amd, arm])
  it.each<[string, boolean, (store: ObjectStore, repository: Repository) => Promise<unknown>]>([
    ['put by a tag', false, (store, repository) => new PushingClient(store).push(repository, index, 'new')],
    ['put by its digest', false, (store, repository) => new PushingClient(store).push(repository, index)],
    ['put again', true, (store, repository) => new PushingClient(store).push(repository, index, 'new')],
    [
      'tagged by its digest',
      true,
      (store, repository) => {
        const client = new PushingClient(store)
        return client.under((run) => client.repositories.tags.set(repository, tagOf('new'), index.manifest.digest, run))
      },
    ],
    [
      'tagged as an image',
      true,
      (store, repository) => new Images(store).tag(`${repository}:old`, `${repository}:new`),
    ],
  ])(
    'a child that was deleted is in no record again, whenever that was while its index is %s',
    async (_, isThere, put) => {
      const { client, repositories, store } = registry
      const { manifests } = repositories
      const names = new Names(store)
      for (let at = 1; ; at++) {
        const repository = repositoryOf(`team/app${at}`)
        for (const image of [amd, arm]) await client.push(repository, image)
        if (isThere) await client.push(repository, index, 'old')
        const deleted = { is: false }
        const meanwhile = beforeCall(store, at, async () => {
          deleted.is = true
          expect(await manifests.delete(repository, arm.manifest.digest)).toBe(true)
        })
        await put(meanwhile, repository)
        if (!deleted.is) {
          expect(at).toBeGreaterThan(20)
          break
        }
        expect([at, await manifests.stat(repository, arm.manifest.digest)]).toEqual([at, undefined])
        for (const key of [keys.imageDigest(repository, index.manifest.digest), keys.tag(repository, tagOf('new'))]) {
          const parts = (await names.read(key))?.whole?.parts.map(({ digest }) => digest)
          expect([at, key, parts]).toEqual([at, key, parts && [amd.manifest.digest]])
        }
      }
    },
    300_000,
  )

  it('a manifest that was removed does not come back with a tag that is moved away from it', async () => {
    const [before, after] = [imageOf(['before']), imageOf(['after'])]
    await registry.client.push(app, before, '1')
    const { store, stop } = stopAt(registry.store, ['read'], keys.imageDigest(app, before.manifest.digest))
    const pushing = new PushingClient(store).push(app, after, '1')
    await stop.reached
    expect(await registry.remove('team/app:1')).toEqual({ untagged: ['team/app:1'], deleted: [before.id] })
    stop.goOn()
    await pushing
    expect(await registry.repositories.tags.get(app, tagOf('1'))).toMatchObject({ digest: after.manifest.digest })
    expect(await registry.repositories.manifests.stat(app, before.manifest.digest)).toBeUndefined()
    await registry.collect()
    expect((await registry.images.page(10)).images.map(({ names }) => names)).toEqual([['team/app:1']])
  })

  it('a manifest that no version of today would take stops no start; the others get what they need', async () => {
    const image = imageOf(['one'])
    await registry.load(image, 'team/app:1')
    const deep = Buffer.from(`{"schemaVersion":2,"config":{},"layers":[],"x":${'['.repeat(1_001)}${']'.repeat(1_001)}}`)
    const digest = digestOf(deep)
    const leases = new Leases(registry.store)
    const run = await leases.create('old', { job: { kind: 'load', id: 'old' }, request: {} })
    await new BlobStore(registry.store).add(digest, deep, 'old')
    await leases.endBy(run, 'done')
    const { repository, tag } = parseTagged('aaa/deep:1')
    const record = { ...(await registry.images.resolve('team/app:1')), digest, mediaType: MEDIA.manifest }
    await new Names(registry.store).write(keys.tag(repository, tag!), record, undefined)
    await registry.store.delete([
      keys.allNamesMarked,
      keys.allManifestsKept,
      keys.imageDigest(app, image.manifest.digest),
    ])
    await new Images(registry.store).markNames()
    expect(await registry.store.stat(keys.allManifestsKept)).toBeDefined()
    expect(await registry.repositories.manifests.get(app, image.manifest.digest)).toBeDefined()
  })
})
