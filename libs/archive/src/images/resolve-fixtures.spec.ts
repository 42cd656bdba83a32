import { buffer } from 'node:stream/consumers'
import { gunzipSync } from 'node:zlib'
import { familiarReference, hexOf, imageConfigSchema, parseJson } from '@strata/oci'
import { describe, expect, it } from 'vitest'
import type { ArchiveImage } from './image-archive.js'
import { encodeListing } from '../encode-listing.js'
import { decodeListing } from '../listing.js'
import { resolveArchive, type ResolveOptions } from './resolve.js'
import { FIXTURES, openFixture, type FixtureName } from '../testing/fixtures.js'
import { listArchive } from '../testing/list-archive.js'

async function resolve(name: FixtureName, options?: ResolveOptions) {
  const bytes = await buffer(openFixture(name))
  const { listing, readSmall } = listArchive(name.endsWith('.gz') ? gunzipSync(bytes) : bytes)
  return { images: await resolveArchive(decodeListing(encodeListing(listing)), readSmall, options), readSmall }
}

const shape = (image: ArchiveImage) => ({
  names: image.names.map(familiarReference),
  id: hexOf(image.config.digest).slice(0, 12),
  digest: image.manifest ? hexOf(image.manifest.digest).slice(0, 12) : undefined,
  layers: image.layers.map(
    ({ blob, compression, diffId }) => `${compression} ${hexOf(diffId).slice(0, 8)} ${blob.size}`,
  ),
})

const plain = ['none 807953b6 2355200', 'none 3782d6d3 10512384', 'none 4689fcb4 8704']
const gzip = ['gzip 807953b6 1215482', 'gzip 3782d6d3 16126', 'gzip 4689fcb4 362']
const odd = { names: ['fx/odd:3'], id: '8988f14c4782', digest: undefined, layers: plain }
const packed = { names: ['fx/odd:3'], id: '079b1a0533db', digest: 'b61b35954010', layers: gzip }
const expected: Record<FixtureName, ReturnType<typeof shape>[]> = {
  'docker20-odd.tar': [odd],
  'docker20-multi.tar.gz': [
    { names: ['fx/busybox:1'], id: '6eb34e3bfe87', digest: undefined, layers: [plain[0]!] },
    { names: ['fx/odd:2'], id: '74592797530d', digest: undefined, layers: plain.slice(0, 2) },
    odd,
  ],
  'docker20-empty.tar': [
    { names: ['fx/empty:1'], id: 'd08d422533dc', digest: undefined, layers: ['none 84ff9269 10240'] },
  ],
  'docker28-odd.tar': [{ ...odd, digest: '1447f798cde2' }],
  'docker28-containerd-gzip.tar': [packed],
  'podman4-docker-archive.tar': [{ ...odd, names: ['localhost/fx/odd:3'] }],
  'podman4-oci-archive.tar': [{ ...packed, names: ['localhost/fx/odd:3'] }],
  'skopeo-oci-gzip.tar': [packed],
  'skopeo-oci-zstd.tar': [
    { ...packed, digest: '4444101de42a', layers: ['zstd 807953b6 1217804', 'zstd 3782d6d3 2060', 'zstd 4689fcb4 337'] },
  ],
}

describe('the images of the real tools’ archives', () => {
  it.each(FIXTURES)('%s', async (name) => {
    const { images, readSmall } = await resolve(name)
    expect(images.map(shape)).toEqual(expected[name])
    for (const image of images) {
      expect(image.platform).toEqual({ os: 'linux', architecture: 'amd64' })
      if ('bytes' in image.config) throw new Error('these archives have their configs')
      const config = parseJson(imageConfigSchema, await readSmall(image.config), 'the config')
      expect(config.rootfs.diff_ids).toEqual(image.layers.map(({ diffId }) => diffId))
    }
  })

  it('gives one image another name', async () => {
    const { images } = await resolve('docker28-odd.tar', { name: 'my/own:1' })
    expect(images.map(({ names }) => names.map(familiarReference))).toEqual([['my/own:1']])
  })

  it('gives no name to one of several', async () => {
    await expect(resolve('docker20-multi.tar.gz', { name: 'my/own' })).rejects.toMatchObject({
      code: 'bad_request',
      message: expect.stringContaining('the archive has 3') as string,
    })
  })
})
