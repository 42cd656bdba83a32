import { MEDIA, type Digest } from '@strata/oci'
import { BlobStore, Collector, keys } from '@strata/store'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Names } from '../names.js'
import { artifactOf, imageOf, indexOf, repositoryOf, tagOf } from '../testing/pushing-client.js'
import { STORE_KINDS, TestRegistry } from '../testing/test-registry.js'

const [app, other] = [repositoryOf('team/app'), repositoryOf('team/other')]
const CHART = 'application/vnd.cncf.helm.config.v1+json'

describe.each(STORE_KINDS)('manifests without a tag on %s', (kind) => {
  let registry: TestRegistry
  beforeEach(async () => {
    registry = await TestRegistry.open(kind)
  })
  afterEach(() => registry.dispose())
  const prune = async () => {
    for (const { digest } of await registry.images.all.untagged()) await registry.images.removeUntagged(digest)
    for (const manifest of await registry.images.all.untaggedManifests())
      await registry.images.removeUntaggedManifest(manifest)
    await registry.collect()
  }

  it('go by a prune: those of a moved tag, of a deleted one, and of a removal that died', async () => {
    const { client, repositories } = registry
    const [moved, deleted, died, stays] = ['moved', 'deleted', 'died', 'stays'].map((text) => artifactOf(text, CHART))
    await client.push(app, moved!, '1')
    await client.push(app, stays!, '1')
    await client.push(app, deleted!, '2')
    await repositories.tags.delete(app, tagOf('2'))
    await client.push(app, died!, '3')
    const names = new Names(registry.store)
    expect(await names.retire((await names.find(keys.tag(app, tagOf('3'))))!)).toBe(true)
    await registry.collect()
    for (const { manifest } of [moved!, deleted!, died!, stays!])
      expect(await repositories.manifests.stat(app, manifest.digest)).toBeDefined()
    await prune()
    for (const { manifest } of [moved!, deleted!, died!])
      expect(await repositories.manifests.stat(app, manifest.digest)).toBeUndefined()
    expect(await repositories.manifests.get(app, stays!.manifest.digest)).toBeDefined()
    await registry.remove('team/app:1')
    await prune()
    expect(await registry.left()).toEqual([])
  })

  it('stay if they were put by their digests, have a subject, or a tag', async () => {
    const { client, repositories } = registry
    const subject = { digest: imageOf(['one']).manifest.digest, size: 1, mediaType: MEDIA.manifest }
    const [byDigest, signature, tagged] = [
      artifactOf('digest', CHART),
      artifactOf('signature', CHART, { subject }),
      artifactOf('tagged', CHART),
    ]
    await client.push(app, byDigest)
    await client.push(app, signature, 'sig')
    await repositories.tags.delete(app, tagOf('sig'))
    await client.push(app, tagged, '1')
    // In another repository the same one has lost its tag.
    await client.push(other, tagged, '1')
    await repositories.tags.delete(other, tagOf('1'))
    expect(await registry.images.all.untaggedManifests()).toEqual([
      { repository: other, digest: tagged.manifest.digest },
    ])
    // As a dry run takes them for removed: what the first repository has stays.
    const absent = { images: new Set<Digest>(), manifests: new Set([keys.imageDigest(other, tagged.manifest.digest)]) }
    const dry = await new Collector(registry.store).collect({
      dryRun: true,
      references: (isHad) => registry.images.all.references(absent, isHad),
    })
    expect(dry.report.blobs.count).toBe(0)
    await prune()
    for (const { manifest } of [byDigest, signature, tagged])
      expect(await repositories.manifests.get(app, manifest.digest)).toMatchObject({ bytes: manifest.bytes })
    expect(await repositories.manifests.stat(other, tagged.manifest.digest)).toBeUndefined()
  })

  const charts = ['one', 'two'].map((text) => ({ ...artifactOf(text, CHART), architecture: 'amd64' }))
  const images = [imageOf(['one'], {}, 'amd64'), imageOf(['two'], {}, 'arm64')]
  const subject = { digest: imageOf(['base']).manifest.digest, size: 1, mediaType: MEDIA.manifest }
  it.each([
    { of: 'charts, by its tag', children: charts, tag: 'all' },
    { of: 'charts, by its digest', children: charts },
    { of: 'images, by its digest', children: images },
    { of: 'images with a subject, by its tag', children: images, more: { subject }, tag: 'all' },
    { of: 'images with an artifact type, by its tag', children: images, more: { artifactType: CHART }, tag: 'all' },
  ])('stay with an index of $of', async ({ children, more, tag }) => {
    const { client, repositories } = registry
    const index = indexOf(children, more)
    for (const [i, child] of children.entries()) await client.push(app, child, String(i))
    await client.push(app, index, tag)
    for (const i of children.keys()) await repositories.tags.delete(app, tagOf(String(i)))
    await prune()
    for (const { manifest, blobs } of children) {
      expect(await repositories.manifests.get(app, manifest.digest)).toMatchObject({ bytes: manifest.bytes })
      for (const { digest, size } of blobs)
        expect(await new BlobStore(registry.store).read(digest, 1_000)).toHaveLength(size)
    }
    // Nor does a removal of a tag with what it stands for take a child away.
    for (const [i, { manifest }] of children.entries()) {
      await client.under((run) => repositories.tags.set(app, tagOf(String(i)), manifest.digest, run))
      await registry.remove(`team/app:${i}`)
    }
    await registry.collect()
    for (const { manifest } of children)
      expect(await repositories.manifests.get(app, manifest.digest)).toMatchObject({ bytes: manifest.bytes })
    expect(await repositories.manifests.delete(app, index.manifest.digest)).toBe(true)
    await prune()
    expect(await registry.left()).toEqual([])
  })

  it('stay with an index whose record an earlier version wrote, and those of an index below it', async () => {
    const { client, repositories } = registry
    const below = { ...indexOf(charts), architecture: 'amd64' }
    const index = indexOf([below])
    for (const [i, pushed] of [...charts, below, index].entries()) await client.push(app, pushed, String(i))
    const names = new Names(registry.store)
    for (const { manifest } of [below, index])
      for (const key of [
        keys.imageDigest(app, manifest.digest),
        keys.tag(app, tagOf(manifest === below.manifest ? '2' : '3')),
      ]) {
        const { before, found } = await names.findToWrite(key)
        expect(await names.write(key, { ...before!, whole: undefined }, found)).toBe(true)
      }
    for (const tag of ['0', '1', '2']) await repositories.tags.delete(app, tagOf(tag))
    await prune()
    for (const { manifest } of [...charts, below])
      expect(await repositories.manifests.get(app, manifest.digest)).toMatchObject({ bytes: manifest.bytes })
    await repositories.tags.delete(app, tagOf('3'))
    await prune()
    expect(await registry.left()).toEqual([])
  })
})
