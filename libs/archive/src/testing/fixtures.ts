import { createReadStream } from 'node:fs'
import { pipeline, type Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { constants, createZstdDecompress } from 'node:zlib'

export * from './tar-bytes.js'

/** The archives of fixtures/README.md. */
export const FIXTURES = [
  'docker20-odd.tar',
  'docker20-multi.tar.gz',
  'docker20-empty.tar',
  'docker28-odd.tar',
  'docker28-containerd-gzip.tar',
  'podman4-docker-archive.tar',
  'podman4-oci-archive.tar',
  'skopeo-oci-gzip.tar',
  'skopeo-oci-zstd.tar',
] as const
export type FixtureName = (typeof FIXTURES)[number]

/** The original bytes of a fixture, as its tool wrote them. */
export function openFixture(name: FixtureName | 'docker20-odd.rootfs.jsonl'): Readable {
  const file = fileURLToPath(new URL(`../../fixtures/${name}.zst`, import.meta.url))
  const zstd = createZstdDecompress({ params: { [constants.ZSTD_d_windowLogMax]: 27 } })
  // An error of either side destroys the other and reaches the reader as the stream's error.
  return pipeline(createReadStream(file), zstd, () => undefined)
}

/**
 * The merged root file system of `fx/odd:3`: one JSON line an entry, sorted by the paths' bytes
 * (fixtures/README.md).
 */
export async function fixtureListing(): Promise<string[]> {
  return (await text(openFixture('docker20-odd.rootfs.jsonl'))).trimEnd().split('\n')
}
