import { buffer } from 'node:stream/consumers'
import { gunzipSync } from 'node:zlib'
import { expect, it } from 'vitest'
import { originOf, type ArchiveOrigin } from './archive-origin.js'
import { FIXTURES, openFixture, type FixtureName } from '../testing/fixtures.js'
import { listArchive } from '../testing/list-archive.js'

const OLD = { format: 'docker', writer: 'docker 1.10 to 24' } as const
const EXPECTED: Record<FixtureName, ArchiveOrigin> = {
  'docker20-odd.tar': OLD,
  'docker20-multi.tar.gz': OLD,
  'docker20-empty.tar': OLD,
  'docker28-odd.tar': { format: 'docker+oci', writer: 'docker 25 or later' },
  'docker28-containerd-gzip.tar': { format: 'docker+oci', writer: 'containerd (docker, nerdctl, ctr)' },
  'podman4-docker-archive.tar': { format: 'docker', writer: 'containers/image (podman, skopeo, buildah)' },
  'podman4-oci-archive.tar': { format: 'oci' },
  'skopeo-oci-gzip.tar': { format: 'oci' },
  'skopeo-oci-zstd.tar': { format: 'oci' },
}

it.each(FIXTURES)('%s', async (name) => {
  const bytes = await buffer(openFixture(name))
  expect(originOf(listArchive(name.endsWith('.gz') ? gunzipSync(bytes) : bytes).listing)).toEqual(EXPECTED[name])
})

const hex = 'a'.repeat(64)
it.each([
  [
    ['manifest.json', `sha256:${hex}`, `${hex}.tar.gz`],
    { format: 'docker', writer: 'go-containerregistry (crane, kaniko)' },
  ],
  [
    ['manifest.json', `blobs/sha256/${hex}`, `blobs/sha256/${hex}.tar.gz`],
    { format: 'docker', writer: 'rules_oci (bazel)' },
  ],
  [[`${hex}/json`, `${hex}/layer.tar`], { format: 'docker-v1', writer: 'docker before 1.10' }],
  [['oci-layout', 'index.json', 'manifest.json', 'blobs/'], { format: 'docker+oci', writer: 'strata' }],
  [['oci-layout', 'index.json', 'blobs/'], { format: 'oci' }],
  [['layer', 'config', 'manifest.json'], { format: 'docker' }],
] as const)('%j', (names, expected) => {
  expect(originOf({ entries: names.map((name) => ({ name, type: 'file', size: 0 })) })).toEqual(expected)
})
