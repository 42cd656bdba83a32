import { digestOf, MEDIA, type Algorithm, type Digest } from '@strata/oci'
import { makeLayer, type TreeEntry } from './make-image.js'

export interface TestDescriptor {
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
}

/**
 * An OCI layout that is made blob by blob: what is added gets a descriptor, to be named by the
 * next.
 */
export class TestLayout {
  readonly #blobs = new Map<Digest, Buffer>()

  /** By which its blobs are known. */
  constructor(private readonly algorithm: Algorithm = 'sha256') {}

  add<T extends object = object>(content: string | Buffer | object, mediaType: string, rest?: T): TestDescriptor & T {
    const bytes = Buffer.isBuffer(content)
      ? content
      : Buffer.from(typeof content === 'string' ? content : JSON.stringify(content))
    const digest = digestOf(bytes, this.algorithm)
    this.#blobs.set(digest, bytes)
    return { mediaType, digest, size: bytes.length, ...rest! }
  }

  /** An image of one layer. `pack` is done to the layer. */
  async image(architecture: string, variant?: string, pack: (tar: Buffer) => Buffer = (tar) => tar) {
    const platform = { os: 'linux', architecture, ...(variant ? { variant } : {}) }
    const tar = await makeLayer(new Map<string, TreeEntry>([['platform', { content: architecture + (variant ?? '') }]]))
    const config = this.add({ ...platform, rootfs: { type: 'layers', diff_ids: [digestOf(tar)] } }, MEDIA.config)
    const layer = this.add(pack(tar), MEDIA.layer)
    return {
      ...this.add({ schemaVersion: 2, mediaType: MEDIA.manifest, config, layers: [layer] }, MEDIA.manifest, {
        platform,
      }),
      layer: layer.digest,
      id: config.digest,
    }
  }

  /** A manifest that is no image, attached to `subject`. */
  artifact(subject: TestDescriptor | undefined, text = 'signed') {
    const config = this.add('{}', 'application/vnd.oci.empty.v1+json')
    return this.add(
      {
        schemaVersion: 2,
        mediaType: MEDIA.manifest,
        artifactType: 'application/x-signature',
        config,
        layers: [this.add(text, 'text/plain')],
        ...(subject ? { subject: bare(subject) } : {}),
      },
      MEDIA.manifest,
    )
  }

  index(manifests: object[], rest: object = {}) {
    return this.add({ schemaVersion: 2, mediaType: MEDIA.index, manifests: manifests.map(bare), ...rest }, MEDIA.index)
  }

  /** The layout in a tar, with `top` in its `index.json`. */
  tar(top: object[], without: readonly Digest[] = []): Promise<Buffer> {
    const blobs = [...this.#blobs]
      .filter(([digest]) => !without.includes(digest))
      .map(([digest, content]) => [`blobs/${digest.replace(':', '/')}`, { content }] as const)
    return makeLayer(
      new Map<string, TreeEntry>([
        ['oci-layout', { content: '{"imageLayoutVersion":"1.0.0"}' }],
        ['index.json', { content: JSON.stringify({ schemaVersion: 2, manifests: top.map(bare) }) }],
        ...blobs,
      ]),
    )
  }
}

/** A descriptor without what is the tests' own. */
function bare(descriptor: object): object {
  return { ...descriptor, layer: undefined, id: undefined }
}
