import { digestOf, documentSchema, MEDIA, parseJson, type Repository } from '@strata/oci'
import { BlobStore, keys, piecesOf, RepositoryBlobs } from '@strata/store'
import { stopAt } from '@strata/store/testing'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Images } from './images.js'
import { Names } from './names.js'
import { gathered } from './testing/gathered.js'
import { artifactOf, imageOf, indexOf, repositoryOf, type Part } from './testing/pushing-client.js'
import { STORE_KINDS, TestRegistry } from './testing/test-registry.js'

const app = repositoryOf('team/app')
const other = repositoryOf('other')

describe.each(STORE_KINDS)('what cannot be read on %s', (kind) => {
  let registry: TestRegistry
  beforeEach(async () => {
    registry = await TestRegistry.open(kind)
  })
  afterEach(() => registry.dispose())

  const has = async ({ digest }: Pick<Part, 'digest'>) =>
    (await new BlobStore(registry.store).stat(digest)) !== undefined
  const damage = async ({ digest }: Part) => {
    for (const { data, size } of piecesOf((await new BlobStore(registry.store).stat(digest))!)) {
      await registry.store.delete([data])
      await registry.store.put(data, Buffer.alloc(size))
    }
  }
  const damageName = async (key: string) => {
    const { etag } = (await registry.store.stat(key))!
    expect(await registry.store.replace(key, Buffer.from('{"rev":'), etag)).toBeDefined()
  }
  /** An image of a repository whose blobs nothing needs any more. */
  const unneeded = async (repository: Repository) => {
    const image = imageOf(['not needed'])
    await registry.client.push(repository, image, 'gone')
    await registry.repositories.manifests.delete(repository, image.manifest.digest)
    return image
  }
  /** As a release with wider limits, or none, has stored it. */
  const pushTooLarge = async () => {
    const image = imageOf(['large'])
    const document = { ...(JSON.parse(image.manifest.bytes.toString()) as object), junk: Array(500_001).fill([]) as [] }
    const bytes = Buffer.from(JSON.stringify(document))
    const digest = digestOf(bytes)
    expect(() => parseJson(documentSchema, bytes, 'it')).toThrow('500000')
    await registry.client.under(async ({ lease }) => {
      const blobs = new BlobStore(registry.store)
      for (const blob of [...image.blobs, { digest, bytes }]) await blobs.add(blob.digest, blob.bytes, lease)
      await new RepositoryBlobs(registry.store).add(
        app,
        image.blobs.map((blob) => blob.digest),
        lease,
      )
      const record = { id: image.id, digest, mediaType: MEDIA.manifest, manifestSize: bytes.length, size: 5, layers: 1 }
      const names = new Names(registry.store)
      for (const key of [keys.imageDigest(app, digest), keys.tag(app, 'large' as never)])
        await names.write(key, record, undefined)
    })
    return { ...image, manifest: { digest } }
  }

  it('by the limits of today keeps what it refers to, and stops nothing', async () => {
    const large = await pushTooLarge()
    const gone = await unneeded(other)
    const { report, unreadable } = await registry.collected()
    expect(unreadable).toEqual([])
    expect(report.blobs.count).toBe(3)
    for (const part of [large.manifest, ...large.blobs]) expect(await has(part)).toBe(true)
    for (const part of [gone.manifest, ...gone.blobs]) expect(await has(part)).toBe(false)
    expect(await registry.images.all.usage(() => false)).toMatchObject({ total: 1 })
    // It can lose its tag to another, be moved, and be removed.
    const next = imageOf(['next'])
    await registry.client.push(app, next, 'large')
    expect(await registry.repositories.manifests.delete(app, large.manifest.digest)).toBe(true)
    await registry.collect()
    for (const part of large.blobs) expect(await has(part)).toBe(false)
  })

  it('as a part of an index can be taken out of it, and the rest stays', async () => {
    const [amd, arm] = [imageOf(['one'], {}, 'amd64'), imageOf(['two'], {}, 'arm64')]
    for (const image of [amd, arm]) await registry.client.push(app, image)
    await registry.client.push(app, indexOf([amd, arm]), 'all')
    await damage(amd.manifest)
    const { unreadable } = await registry.collected()
    expect(unreadable.map(({ repository }) => repository)).toEqual([app, app])
    for (const part of [...amd.blobs, ...arm.blobs, arm.manifest]) expect(await has(part)).toBe(true)
    expect(await registry.repositories.manifests.delete(app, amd.manifest.digest)).toBe(true)
    expect((await registry.collected()).unreadable).toEqual([])
    expect(await has(arm.blobs[1]!)).toBe(true)
    expect(await has(amd.blobs[1]!)).toBe(false)
  })

  it.each(['image', 'chart'])('as the manifest of a repository keeps the blobs of that alone: an %s', async (what) => {
    const kept = what === 'image' ? imageOf(['kept']) : artifactOf('kept', 'application/chart')
    await registry.client.push(app, kept, '1')
    await damage(kept.manifest)
    const [gone, unsure] = [await unneeded(other), await unneeded(app)]
    const { report, unreadable } = await registry.collected()
    const name = `team/app@${kept.manifest.digest}`
    expect(unreadable).toEqual([
      expect.objectContaining({ name, reason: expect.stringContaining(`strata rmi ${name}`) as string }),
    ])
    for (const part of [kept.manifest, ...kept.blobs]) expect(await has(part)).toBe(true)
    for (const part of kept.blobs) expect(await registry.repositories.blobs.has(app, part.digest)).toBe(true)
    // The blobs of `unsure` and `gone` are the same, and the repository may still need them.
    expect(unsure.blobs).toEqual(gone.blobs)
    expect(report.blobs.count).toBe(1)
    expect(await has(gone.manifest)).toBe(false)

    expect(await registry.remove(name)).toMatchObject({ untagged: expect.arrayContaining(['team/app:1']) as string[] })
    expect((await registry.collected()).unreadable).toEqual([])
    expect(await registry.left()).toEqual([])
  })

  it('keeps a blob that a client has deleted in its repository: with its bytes back, the image is whole', async () => {
    const image = imageOf(['kept'])
    await registry.client.push(app, image, '1')
    const { blobs } = registry.repositories
    for (const { digest } of image.blobs) expect(await blobs.delete(app, digest)).toBe(true)
    const { data } = piecesOf((await new BlobStore(registry.store).stat(image.manifest.digest))!)[0]!
    await damage(image.manifest)
    expect((await registry.collected()).unreadable).toHaveLength(1)
    for (const part of image.blobs) expect([await has(part), await blobs.has(app, part.digest)]).toEqual([true, false])
    await registry.store.delete([data])
    await registry.store.put(data, image.manifest.bytes)
    expect((await registry.collected()).unreadable).toEqual([])
    for (const part of image.blobs) expect(await has(part)).toBe(true)
    // A client that brings them again has them again.
    await registry.client.push(app, image, '1')
    for (const { digest } of image.blobs) expect(await blobs.has(app, digest)).toBe(true)
    // Behind the manifest nothing of them stays.
    for (const { digest } of image.blobs) await blobs.delete(app, digest)
    await registry.repositories.manifests.delete(app, image.manifest.digest)
    await registry.collect()
    expect(await registry.left()).toEqual([])
  })

  it('as a manifest in a repository without its keys, or without a repository, keeps every blob', async () => {
    const image = imageOf(['kept'])
    await registry.load(image, 'team/app:1')
    await damage(image.manifest)
    await registry.store.delete(image.blobs.map(({ digest }) => keys.repositoryBlob(app, digest)))
    const gone = await unneeded(other)
    const { report, unreadable } = await registry.collected()
    expect(unreadable).toHaveLength(1)
    expect(report.blobs.count).toBe(0)
    // All else goes.
    expect(await registry.repositories.blobs.has(other, gone.id)).toBe(false)
    await registry.remove('team/app:1')

    await registry.load(image)
    await damage(image.manifest)
    const again = await registry.collected()
    expect(again.unreadable).toEqual([expect.objectContaining({ repository: undefined, name: image.manifest.digest })])
    expect(again.report.blobs.count).toBe(0)
    await registry.remove(image.manifest.digest)
    await registry.collect()
    expect(await registry.left()).toEqual([])
  })

  it('as a name keeps every blob, and its repository from losing an untagged image', async () => {
    const [image, moved, chart] = [imageOf(['kept']), imageOf(['moved']), artifactOf('moved', 'application/chart')]
    await registry.client.push(app, image, '1')
    await registry.client.push(app, imageOf(['first']), '2')
    await registry.client.push(app, moved, '2')
    await registry.client.push(app, chart, 'chart')
    await registry.client.push(app, image, 'chart')
    const lone = imageOf(['lone'])
    await registry.client.push(other, lone, '1')
    await registry.client.push(other, moved, '1')
    await damageName(keys.tag(app, '1' as never))
    expect((await registry.images.all.untagged()).map(({ digest }) => digest)).toEqual([lone.manifest.digest])
    expect(await registry.images.all.untaggedManifests()).toEqual([])
    const { report, unreadable } = await registry.collected()
    expect(unreadable).toEqual([
      expect.objectContaining({
        name: 'team/app:1',
        reason: expect.stringContaining('strata rmi team/app:1') as string,
      }),
    ])
    expect(report.blobs.count).toBe(0)
    await registry.remove('team/app:1')
    expect(await registry.images.all.untaggedManifests()).toHaveLength(1)
    expect((await registry.collected()).unreadable).toEqual([])
  })

  it('is not an image whose name is changed while all names are read', async () => {
    const image = imageOf(['one'])
    await registry.load(image, 'z:1')
    const tag = stopAt(registry.store, ['read'], keys.tag(repositoryOf('z'), 'latest' as never))
    const both = stopAt(tag.store, ['read'], keys.imageDigest(repositoryOf('z'), image.manifest.digest))
    await registry.images.tag('z:1', 'z:latest')
    await registry.remove('z:1')
    const stacks = gathered(new Images(both.store).all.stacks())
    await Promise.all([tag.stop.reached, both.stop.reached])
    await registry.images.tag('z:latest', 'a:1')
    await registry.remove('z:latest')
    for (const { stop } of [tag, both]) stop.goOn()
    expect(await stacks).toEqual([[digestOf('one')]])
  })

  it('is left out of what nodes keep, and does not keep the rest from being told', async () => {
    const [damaged, whole] = [imageOf(['damaged']), imageOf(['whole'])]
    await registry.load(damaged, 'a:1')
    await registry.load(whole, 'b:1')
    await damage(damaged.blobs[0]!)
    expect(await gathered(registry.images.all.stacks())).toEqual([[digestOf('whole')]])
    expect(await registry.images.all.usage(() => true)).toMatchObject({ total: 2, active: 2 })
    // Nothing of it is lost: its manifest says what it needs.
    expect((await registry.collected()).unreadable).toEqual([])
    expect(await has(damaged.blobs[1]!)).toBe(true)
  })
})
