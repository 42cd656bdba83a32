import { makeLayer } from '@strata/archive/testing'
import { digestOf, hexOf } from '@strata/oci'

/**
 * As `docker save`, but with layers as they came from a registry: `blobs`, each the packed form of
 * the tar in `tars`, or plain where there is none.
 */
export function packedImage(name: string, blobs: readonly Buffer[], tars: readonly Buffer[] = blobs): Promise<Buffer> {
  const config = JSON.stringify({
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Env: ['PATH=/bin'] },
    rootfs: { type: 'layers', diff_ids: tars.map((tar) => digestOf(tar)) },
  })
  const Config = `${hexOf(digestOf(config))}.json`
  const layers = blobs.map((content) => ({ path: `${hexOf(digestOf(content))}.tar.gz`, content }))
  const manifest = [{ Config, RepoTags: [name], Layers: layers.map(({ path }) => path) }]
  return makeLayer(
    new Map<string, { content: string | Buffer }>([
      ...layers.map(({ path, content }) => [path, { content }] as const),
      [Config, { content: config }],
      ['manifest.json', { content: JSON.stringify(manifest) }],
    ]),
  )
}
