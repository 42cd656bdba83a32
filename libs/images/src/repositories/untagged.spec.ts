import { MEDIA } from '@strata/oci'
import { keys } from '@strata/store'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Names } from '../names.js'
import { artifactOf, imageOf, repositoryOf, tagOf } from '../testing/pushing-client.js'
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
    await prune()
    for (const { manifest } of [byDigest, signature, tagged])
      expect(await repositories.manifests.get(app, manifest.digest)).toMatchObject({ bytes: manifest.bytes })
    expect(await repositories.manifests.stat(other, tagged.manifest.digest)).toBeUndefined()
  })
})
