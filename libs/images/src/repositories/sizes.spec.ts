import { digestOf, MEDIA, type Digest } from '@strata/oci'
import { BlobStore } from '@strata/store'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { readManifest } from '../manifest.js'
import { artifactOf, imageOf, indexOf, repositoryOf, tagOf, type Part } from '../testing/pushing-client.js'
import { STORE_KINDS, TestRegistry } from '../testing/test-registry.js'

const app = repositoryOf('team/app')
let registry: TestRegistry
beforeEach(async () => {
  registry = await TestRegistry.open(STORE_KINDS[0])
})
afterEach(() => registry.dispose())

/** The same manifest with other sizes. */
function withSizes({ manifest, ...image }: ReturnType<typeof imageOf>, config: number | undefined, layers: number) {
  const content = JSON.parse(manifest.bytes.toString()) as { config: { size: number }; layers: { size: number }[] }
  content.config.size = config ?? content.config.size
  for (const layer of content.layers) layer.size = layers
  const bytes = Buffer.from(JSON.stringify(content))
  const changed: Part = { ...manifest, bytes, digest: digestOf(bytes), size: bytes.length }
  return { ...image, manifest: changed }
}
const image = imageOf(['one', 'two'])

it.each([
  ['layers that together have more bytes than a number holds', withSizes(image, undefined, Number.MAX_SAFE_INTEGER)],
  ['layers of one byte more', withSizes(image, undefined, 4)],
  ['a config of one byte more', withSizes(image, image.blobs[0]!.size + 1, 3)],
])('a manifest is refused that says wrong sizes: %s', async (_, lie) => {
  for (const tag of ['1', undefined])
    await expect(registry.client.push(app, lie, tag)).rejects.toMatchObject({ code: 'not_an_image' })
  expect(await registry.repositories.manifests.stat(app, lie.manifest.digest)).toBeUndefined()
  // Nothing is there that a collection could not read.
  await registry.client.push(app, image, '1')
  await registry.collect()
  expect((await registry.images.inspect('team/app:1')).size).toBe(6)
})

it('one blob has one size', async () => {
  const twice = imageOf(['one', 'one'])
  const content = JSON.parse(twice.manifest.bytes.toString()) as { layers: { size: number }[] }
  content.layers[1]!.size = 4
  const bytes = Buffer.from(JSON.stringify(content))
  const manifest = { ...twice.manifest, bytes, digest: digestOf(bytes), size: bytes.length }
  await expect(registry.client.push(app, { ...twice, manifest }, '1')).rejects.toMatchObject({ code: 'not_an_image' })
})

it('a manifest that an older version took with such sizes is no image, nor is an index of it', async () => {
  const lie = withSizes(image, undefined, Number.MAX_SAFE_INTEGER)
  const { digest, bytes } = lie.manifest
  await registry.client.under(async ({ lease }) => {
    const blobs = new BlobStore(registry.store)
    for (const blob of [...lie.blobs, lie.manifest]) await blobs.add(blob.digest, blob.bytes, lease)
    await expect(readManifest(digest, bytes, blobs)).rejects.toMatchObject({ code: 'not_an_image' })
  })
  // As that version recorded it.
  const index = indexOf([lie])
  await registry.client.under(async (run) => {
    const blobs = new BlobStore(registry.store)
    const digests: Digest[] = []
    for (const blob of [...lie.blobs, lie.manifest]) {
      await blobs.add(blob.digest, blob.bytes, run.lease)
      digests.push(blob.digest)
    }
    await registry.repositories.blobs.add(app, digests, run.lease)
    const { mediaType } = lie.manifest
    const record = { digest, mediaType, manifestSize: bytes.length, kept: 'digest' as const }
    await registry.repositories.manifests.keep(app, record, run)
    await registry.repositories.tags.put(app, 'i' as never, index.manifest, run)
  })
  expect((await registry.images.page(10)).images).toEqual([])
  expect(await registry.repositories.manifests.stat(app, index.manifest.digest)).toBeDefined()
  await registry.collect()
  expect(await registry.repositories.manifests.get(app, digest)).toMatchObject({ bytes })
})

it('several tags of one put read the manifest and its config once', async () => {
  const readsOf = async (tags: readonly string[]): Promise<number> => {
    const one = await TestRegistry.open(STORE_KINDS[0])
    try {
      await one.client.push(app, image)
      let reads = 0
      const read = one.store.read.bind(one.store)
      one.store.read = (key, most) => {
        if (key.startsWith('data/')) reads++
        return read(key, most)
      }
      await one.client.under((run) => one.repositories.tags.putAll(app, tags as never, image.manifest, run))
      expect((await one.repositories.tags.page(app, 10)).tags).toEqual(tags)
      return reads
    } finally {
      await one.dispose()
    }
  }
  expect(await readsOf(['1', '2', '3', '4', '5'])).toBe(await readsOf(['1']))
})

it('what an older version took with two sizes of one blob is listed, tagged and read', async () => {
  const signature = artifactOf('signature', 'text/plain', {
    subject: { digest: image.manifest.digest, size: image.manifest.size, mediaType: MEDIA.manifest },
  })
  const content = JSON.parse(signature.manifest.bytes.toString()) as { layers: { size: number }[] }
  content.layers.push({ ...content.layers[0]!, size: 1 })
  const bytes = Buffer.from(JSON.stringify(content))
  const manifest = { ...signature.manifest, bytes, digest: digestOf(bytes), size: bytes.length }
  const { manifests, tags, referrers } = registry.repositories
  // As a part of an index, which has no record of its own.
  await registry.loadIndex('team/app:all', [{ ...signature, manifest }])
  const page = await referrers.page(app, image.manifest.digest, 10)
  expect(page.referrers).toMatchObject([{ digest: manifest.digest, artifactType: 'text/plain' }])
  await registry.client.under((run) => tags.set(app, tagOf('signature'), manifest.digest, run))
  expect(await tags.get(app, tagOf('signature'))).toMatchObject({ digest: manifest.digest })
  expect(await manifests.get(app, manifest.digest)).toMatchObject({ bytes })
  await expect(registry.client.push(app, { ...signature, manifest }, '1')).rejects.toMatchObject({
    code: 'not_an_image',
  })
})
