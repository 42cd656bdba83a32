import { digestOf } from '@strata/oci'
import { BlobStore } from '@strata/store'
import { expect, it } from 'vitest'
import { artifactOf, indexOf, repositoryOf } from '../testing/pushing-client.js'
import { STORE_KINDS, TestRegistry } from '../testing/test-registry.js'
import { lookBelow } from './below.js'

it('indexes that together name too many manifests are refused before all of them are read', async () => {
  const registry = await TestRegistry.open(STORE_KINDS[0])
  try {
    const chart = artifactOf('chart', 'application/vnd.cncf.helm.config.v1+json')
    const indexes = Array.from({ length: 12 }, (_, at) =>
      indexOf(
        Array.from({ length: 1_500 }, (_one, i) => ({
          manifest: { ...chart.manifest, digest: digestOf(`absent ${at} ${i}`) },
          architecture: 'amd64',
        })),
      ),
    )
    // Their bytes are there, which is all that counts here; to put each as a manifest takes long.
    const manifests = indexes.map(({ manifest }) => manifest)
    await registry.client.push(repositoryOf('team/app'), { ...chart, blobs: [...chart.blobs, ...manifests] })
    const children = manifests.map((manifest) => ({ ...manifest, annotations: {} }))
    let read = 0
    const looking = lookBelow(digestOf('outer'), children, {
      blobs: new BlobStore(registry.store),
      has: () => Promise.resolve(true),
      // Asked for each that was read.
      hold: () => Promise.resolve(++read > 0),
      takesSparse: false,
    })
    await expect(looking).rejects.toMatchObject({ code: 'limit_exceeded' })
    expect(read).toBe(4)
  } finally {
    await registry.dispose()
  }
})
