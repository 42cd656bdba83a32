import { expect, it } from 'vitest'
import { deprecationOf } from './deprecation.js'
import { artifactOf, imageOf, indexOf, repositoryOf, tagOf } from './testing/pushing-client.js'
import { STORE_KINDS, TestRegistry } from './testing/test-registry.js'

const HUB = 'io.artifacthub.package.deprecated'
const DAY = 'vnd.microsoft.artifact.lifecycle.end-of-life.date'

it.each([
  [undefined, undefined],
  [null, undefined],
  [{}, undefined],
  [{ [HUB]: 'true' }, {}],
  [{ [HUB]: 'True' }, {}],
  [{ [HUB]: '1' }, {}],
  [{ [HUB]: 'false' }, undefined],
  [{ [HUB]: '' }, undefined],
  [{ [HUB]: 'true\n' }, undefined],
  [{ [DAY]: '2024-11-12' }, { endOfLife: '2024-11-12' }],
  [{ [DAY]: '2024-11-12T10:00:00Z' }, { endOfLife: '2024-11-12' }],
  [{ [DAY]: '2024-13-40' }, undefined],
  [{ [DAY]: '2024-11-12"\r\nx: y' }, undefined],
  [{ [DAY]: 'soon' }, undefined],
  // At once counts more than some day.
  [{ [HUB]: 'true', [DAY]: '2999-01-01' }, {}],
])('the annotations %j mean %j', (annotations, deprecation) => {
  expect(deprecationOf(annotations)).toEqual(deprecation)
})

it('is in the records of whatever is pushed or loaded, and stays when an index loses its parts', async () => {
  const registry = await TestRegistry.open(STORE_KINDS[0])
  try {
    const { client, repositories } = registry
    const app = repositoryOf('team/app')
    const marked = { annotations: { [DAY]: '2024-11-12' } }
    const deprecated = { endOfLife: '2024-11-12' }
    const [amd, arm, loaded] = [imageOf(['one']), imageOf(['two'], marked, 'arm64'), imageOf(['three'], marked)]
    const all = { arm, index: indexOf([amd, arm], marked), chart: artifactOf('x', 'a/chart', marked) }
    for (const image of [amd, arm]) await client.push(app, image)
    for (const [tag, manifest] of Object.entries(all)) await client.push(app, manifest, tag)
    await client.push(app, indexOf([arm]), 'plain')
    await registry.load(loaded, 'team/app:loaded')
    const expectMarked = async () => {
      for (const [tag, { manifest }] of Object.entries({ ...all, loaded })) {
        expect(await repositories.tags.get(app, tagOf(tag)), tag).toMatchObject({ deprecated })
        expect(await repositories.manifests.stat(app, manifest.digest), tag).toMatchObject({ deprecated })
      }
    }
    await expectMarked()
    expect(await repositories.tags.get(app, tagOf('plain'))).not.toHaveProperty('deprecated')
    expect(await registry.images.inspect('team/app:index')).toMatchObject({ deprecated })
    expect(await registry.images.inspect('team/app:plain')).toMatchObject({ deprecated: undefined })
    expect(await repositories.manifests.delete(app, amd.manifest.digest)).toBe(true)
    await expectMarked()
  } finally {
    await registry.dispose()
  }
})
