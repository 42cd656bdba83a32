import { digestOf, type Digest } from '@strata/oci'
import { BlobStore, keys } from '@strata/store'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Images } from '../images.js'
import { imageOf, indexOf, PushingClient, repositoryOf, tagOf, type Part } from '../testing/pushing-client.js'
import { STORE_KINDS, TestRegistry } from '../testing/test-registry.js'
import { MAX_ABSENT_LAYERS } from './manifests.js'
import { Repositories } from './repositories.js'

const app = repositoryOf('team/app')
const other = repositoryOf('team/other')
const ELSEWHERE = 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip'
let registry: TestRegistry
beforeEach(async () => {
  registry = await TestRegistry.open(STORE_KINDS[0])
})
afterEach(() => registry.dispose())

interface LayerDescriptor {
  digest: Digest
  size: number
  mediaType: string
  urls?: unknown
}

/** The image with changed descriptors of its layers, and without the bytes of some of its blobs. */
function changed(
  { manifest, blobs, ...image }: ReturnType<typeof imageOf>,
  change: (layers: LayerDescriptor[]) => void,
  absent: readonly number[],
) {
  const content = JSON.parse(manifest.bytes.toString()) as { layers: LayerDescriptor[] }
  change(content.layers)
  const bytes = Buffer.from(JSON.stringify(content))
  const part: Part = { ...manifest, bytes, digest: digestOf(bytes), size: bytes.length }
  // The config comes first.
  return { ...image, manifest: part, blobs: blobs.filter((_, at) => !absent.includes(at - 1)), all: blobs }
}
const setType = (mediaType: string) => (layers: LayerDescriptor[]) => void (layers[1]!.mediaType = mediaType)
const foreign = (layers: string[], architecture?: string) =>
  changed(imageOf(layers, {}, architecture), setType(ELSEWHERE), [1])

describe('a layer that is not here', () => {
  it.each([
    ['nobody may give on', setType(ELSEWHERE)],
    ['docker calls foreign', setType('application/vnd.docker.image.rootfs.foreign.diff.tar.gzip')],
    ['has an address', (layers: LayerDescriptor[]) => void (layers[1]!.urls = ['https://example.com/layer'])],
  ])('may be missing if it is one that %s; it is looked for when it is pushed', async (_, change) => {
    const image = changed(imageOf(['one', 'two']), change, [1])
    await registry.client.push(app, image, '1')
    await registry.client.push(app, image)
    expect((await registry.images.inspect('team/app:1')).layerList).toHaveLength(2)
    expect((await registry.collected()).unreadable).toEqual([])
    const { manifests, blobs } = registry.repositories
    expect(await manifests.get(app, image.manifest.digest)).toMatchObject({ bytes: image.manifest.bytes })
    const absent = image.all[2]!
    expect(await blobs.has(app, absent.digest)).toBe(false)
    // Of a layer that is not here no byte takes space.
    const usage = async (): Promise<number> => (await registry.images.all.usage(() => false)).bytes
    const without = await usage()
    await registry.client.under(async ({ lease }) => {
      await new BlobStore(registry.store).add(absent.digest, absent.bytes, lease)
      await blobs.add(app, [absent.digest], lease)
    })
    // The manifest keeps it.
    await registry.collect()
    expect(await blobs.has(app, absent.digest)).toBe(true)
    expect(await new BlobStore(registry.store).read(absent.digest, 100)).toEqual(absent.bytes)
    expect((await usage()) - without).toBe(absent.size)
    await registry.client.push(app, image, '2')
    await manifests.delete(app, image.manifest.digest)
    await registry.collect()
    expect(await registry.left()).toEqual([])
  })

  it('is looked for once by df, with fifteen others of its image at the same time', async () => {
    const names = Array.from({ length: 20 }, (_, at) => `layer ${at}`)
    const toElsewhere = (layers: LayerDescriptor[]): void => {
      for (const layer of layers) layer.mediaType = ELSEWHERE
    }
    await registry.client.push(app, changed(imageOf(names), toElsewhere, [...names.keys()]), '1')
    // Nothing is answered before sixteen are asked for.
    const sixteen = Promise.withResolvers<undefined>()
    let [asked, underWay, most] = [0, 0, 0]
    const spy = vi.spyOn(BlobStore.prototype, 'stat').mockImplementation(async () => {
      if (++asked === 16) sixteen.resolve(undefined)
      most = Math.max(most, ++underWay)
      await sixteen.promise
      underWay--
      return undefined
    })
    try {
      await registry.images.all.usage(() => false)
    } finally {
      spy.mockRestore()
    }
    expect([asked, most]).toEqual([names.length, 16])
  })

  it.each([
    ['a layer like any other', () => undefined, [1]],
    ['another layer than the one that may be missing', setType(ELSEWHERE), [0]],
    ['the config', setType(ELSEWHERE), [-1]],
    ['a layer with an empty list of addresses', (layers: LayerDescriptor[]) => void (layers[1]!.urls = []), [1]],
    [
      'a layer that is named once more without an address',
      (layers: LayerDescriptor[]) => {
        layers[0] = { ...layers[1]! }
        layers[1]!.urls = ['https://example.com/layer']
      },
      [0, 1],
    ],
  ])('is refused if it is %s', async (_, change, absent) => {
    const image = changed(imageOf(['one', 'two']), change, absent)
    for (const tag of ['1', undefined])
      await expect(registry.client.push(app, image, tag)).rejects.toMatchObject({
        code: 'layer_missing',
        message: expect.stringMatching(/manifest sha256:\w+ needs blob sha256:\w+, which/) as string,
      })
  })

  it('has the size that the manifest says, once it is here', async () => {
    const lie = changed(
      imageOf(['one', 'two']),
      (layers) => {
        setType(ELSEWHERE)(layers)
        layers[1]!.size = 1_000
      },
      [1],
    )
    await registry.client.push(app, lie, '1')
    await expect(registry.client.push(app, { ...lie, blobs: lie.all }, '2')).rejects.toMatchObject({
      code: 'not_an_image',
    })
  })

  it('does not stop a tag, and what an index names stays with the index', async () => {
    const [amd, arm] = [foreign(['one', 'two']), foreign(['one', 'three'], 'arm64')]
    const index = indexOf([amd, arm])
    const { manifests, tags } = registry.repositories
    for (const image of [amd, arm]) await registry.client.push(app, image, `of-${image.architecture}`)
    await registry.client.push(app, index, 'all')
    await registry.images.tag('team/app:of-amd64', 'team/other:1')
    await registry.images.tag('team/app:all', 'team/other:all')
    await registry.client.under((run) => tags.set(app, tagOf('again'), amd.manifest.digest, run))
    for (const image of [amd, arm]) await registry.remove(`team/app:of-${image.architecture}`)
    await registry.remove('team/app:again')
    await registry.collect()
    expect(await manifests.has(app, arm.manifest.digest)).toBe(true)
    expect((await registry.images.inspect('team/app:all')).whole?.parts).toMatchObject([
      { platform: 'linux/amd64' },
      { platform: 'linux/arm64' },
    ])
    // A key of a blob that is not here would say that the repository has it.
    for (const repository of [app, other]) {
      expect(await registry.repositories.blobs.has(repository, amd.all[1]!.digest)).toBe(true)
      expect(await registry.repositories.blobs.has(repository, amd.all[2]!.digest)).toBe(false)
    }
  })

  it('is taken from no other repository', async () => {
    const image = foreign(['one', 'two'])
    await registry.client.push(other, { ...image, blobs: image.all }, '1')
    await registry.client.push(app, image, '1')
    expect(await registry.repositories.blobs.has(app, image.all[2]!.digest)).toBe(false)
  })
})

describe('repositories that take sparse images', () => {
  it('take a manifest without its layers, and none without its config', async () => {
    const client = new PushingClient(registry.store, new Repositories(registry.store, { takesSparse: true }))
    const [amd, arm] = (['amd64', 'arm64'] as const).map((architecture) =>
      changed(imageOf(['one', architecture], {}, architecture), () => undefined, [0, 1]),
    ) as [ReturnType<typeof changed>, ReturnType<typeof changed>]
    for (const image of [amd, arm]) {
      await client.push(app, image, image.architecture)
      await expect(client.push(app, { ...image, blobs: [] }, '1')).resolves.toBe(image.manifest.digest)
    }
    await client.push(app, indexOf([amd, arm]), 'all')
    expect((await registry.images.inspect('team/app:all')).whole?.parts).toHaveLength(2)
    const alone = changed(imageOf(['alone']), () => undefined, [-1, 0])
    await expect(client.push(app, alone, '1')).rejects.toMatchObject({ code: 'layer_missing' })
    // Whoever does not take them leaves what is there as it is.
    await registry.collect()
    expect((await registry.images.inspect('team/app:amd64')).digest).toBe(amd.manifest.digest)
    await registry.client.push(app, { ...amd, blobs: amd.all }, 'whole')
    await registry.collect()
    for (const { digest } of amd.all) expect(await new BlobStore(registry.store).stat(digest)).toBeDefined()
  })

  it('tag, count, keep, remove and collect what they have taken', async () => {
    const { store } = registry
    const client = new PushingClient(store, new Repositories(store, { takesSparse: true }))
    const images = new Images(store, { takesSparse: true })
    const [amd, arm] = [
      changed(imageOf(['here', 'absent'], {}, 'amd64'), () => undefined, [1]),
      changed(imageOf(['here', 'away'], {}, 'arm64'), () => undefined, [1]),
    ]
    await client.push(app, amd, '1')
    await client.push(app, indexOf([amd]), 'all')
    await client.push(app, arm, 'arm')
    expect((await images.tag('team/app:1', 'team/other:1')).digest).toBe(amd.manifest.digest)
    await images.tag('team/app:all', 'team/other:all')
    const bytes = [amd, arm].flatMap((image) => [image.manifest, ...image.blobs])
    const sizes = new Map([...bytes, indexOf([amd]).manifest].map(({ digest, size }) => [digest, size]))
    const sum = [...sizes.values()].reduce((all, size) => all + size, 0)
    expect(await images.all.usage(() => false)).toMatchObject({ total: 3, bytes: sum })
    // A service of an older version has left a tag without its manifest's record.
    await store.delete([keys.allManifestsKept, keys.imageDigest(app, arm.manifest.digest)])
    await new Images(store, { takesSparse: true }).markNames()
    expect(await client.repositories.manifests.has(app, arm.manifest.digest)).toBe(true)
    expect((await registry.collected()).unreadable).toEqual([])
    expect((await images.page(10)).images).toHaveLength(3)
    for (const ref of ['team/app:1', 'team/app:all', 'team/app:arm', 'team/other:1', 'team/other:all'])
      await images.remove({ ref, force: false, inUse: () => Promise.resolve(false) })
    await registry.collect()
    expect(await registry.left()).toEqual([])
  })

  it('take none that lacks more layers than an image may have', async () => {
    const client = new PushingClient(registry.store, new Repositories(registry.store, { takesSparse: true }))
    const lacking = (count: number) => {
      const layers = Array.from({ length: count }, (_, at) => `layer ${at}`)
      return changed(imageOf(layers), () => undefined, [...layers.keys()])
    }
    await client.push(app, lacking(MAX_ABSENT_LAYERS), '1')
    await expect(client.push(app, lacking(MAX_ABSENT_LAYERS + 1), '2')).rejects.toMatchObject({
      code: 'limit_exceeded',
      message: expect.stringContaining('lacks 501 layers; the limit is 500') as string,
    })
    const elsewhere = lacking(MAX_ABSENT_LAYERS + 1)
    const named = changed(
      { ...elsewhere, blobs: elsewhere.all },
      (layers) => {
        for (const layer of layers) layer.mediaType = ELSEWHERE
      },
      [...Array(MAX_ABSENT_LAYERS + 1).keys()],
    )
    await expect(registry.client.push(app, named, '3')).rejects.toMatchObject({ code: 'limit_exceeded' })
  })
})
