import type { LoadResult } from '@strata/api'
import { expect, it } from 'vitest'
import { loadReport } from './load-report.js'

const image: LoadResult['images'][number] = {
  id: 'sha256:1' as never,
  digest: 'sha256:2' as never,
  names: ['a:1'],
  layers: 2,
}
const layers = { new: { count: 1, bytes: 12_900_000 }, known: { count: 0, bytes: 0 } }

it('says what an archive was and brought', () => {
  expect(loadReport([image], { format: 'docker', writer: 'docker 1.10 to 24', layers })).toBe(
    'docker archive written by docker 1.10 to 24: 1 image, 1 new layer (12.9MB)',
  )
  expect(
    loadReport([image, image], {
      format: 'oci',
      layers: { new: { count: 0, bytes: 0 }, known: { count: 3, bytes: 2_400_000 } },
    }),
  ).toBe('OCI image layout: 2 images, 0 new layers (0B), 3 already here (2.4MB saved)')
})

it('says what is not there', () => {
  const sparse = { ...image, platforms: ['linux/amd64'], missing: ['linux/arm64', 'linux/s390x'] }
  expect(
    loadReport([sparse, { ...sparse, names: [] }], { format: 'oci', layers })
      .split('\n')
      .slice(1),
  ).toEqual([
    'a:1 is here for linux/amd64; not in the archive: linux/arm64, linux/s390x',
    'sha256:1 is here for linux/amd64; not in the archive: linux/arm64, linux/s390x',
  ])
})
