import { digestOf, MEDIA, type Digest } from '@strata/oci'
import type { Random } from '@strata/fuzz/random'

/** Something that is pushed: its bytes, and what a descriptor says of it. */
export interface Part {
  readonly digest: Digest
  readonly mediaType: string
  readonly bytes: Buffer
}

/** A manifest with all that it names in its repository. */
export interface PushedImage {
  readonly manifest: Part
  readonly blobs: readonly Part[]
  /** The manifests that an index names. */
  readonly children: readonly PushedImage[]
}

const [LAYERS, IMAGES, ARTIFACTS, INDEXES] = [16, 30, 8, 8]
const [SMALL, LARGE, LARGE_ONES] = [200_000, 3_000_000, 2]

/** Images, artifacts with subjects and indexes, which share layers. All follow from `random`. */
export function madeImages(random: Random): PushedImage[] {
  const layers = Array.from({ length: LAYERS }, (_, at) =>
    part(bytesOf(random, 1 + random.number(at < LARGE_ONES ? LARGE : SMALL)), MEDIA.layer),
  )
  const images = Array.from({ length: IMAGES }, (_, at) => {
    const own = Array.from({ length: 1 + random.number(4) }, () => random.of(layers))
    const rootfs = { type: 'layers', diff_ids: own.map(({ digest }) => digest) }
    return imageOf(part({ os: 'linux', architecture: 'amd64', author: `${at}`, rootfs }, MEDIA.config), own)
  })
  const empty = part('{}', 'application/vnd.oci.empty.v1+json')
  const artifacts = Array.from({ length: ARTIFACTS }, (_, at) =>
    imageOf(empty, [random.of(layers)], {
      artifactType: 'application/vnd.strata.test',
      subject: descriptorOf(random.of(images).manifest),
      annotations: { at: `${at}` },
    }),
  )
  const indexes = Array.from({ length: INDEXES }, (_, at) => {
    const children = [random.of(images), random.of(images)]
    const manifests = children.map(({ manifest }, place) => ({
      ...descriptorOf(manifest),
      platform: { os: 'linux', architecture: place === 0 ? 'amd64' : 'arm64' },
    }))
    const body = { schemaVersion: 2, mediaType: MEDIA.index, manifests, annotations: { at: `${at}` } }
    return { manifest: part(body, MEDIA.index), blobs: [], children }
  })
  return [...images, ...artifacts, ...indexes]
}

function imageOf(config: Part, layers: readonly Part[], more: object = {}): PushedImage {
  const body = {
    schemaVersion: 2,
    mediaType: MEDIA.manifest,
    config: descriptorOf(config),
    layers: layers.map(descriptorOf),
    ...more,
  }
  return { manifest: part(body, MEDIA.manifest), blobs: [...new Set([config, ...layers])], children: [] }
}

function part(content: object | string, mediaType: string): Part {
  const bytes = Buffer.isBuffer(content)
    ? content
    : Buffer.from(typeof content === 'string' ? content : JSON.stringify(content))
  return { digest: digestOf(bytes), mediaType, bytes }
}

const descriptorOf = ({ digest, mediaType, bytes }: Part) => ({ mediaType, digest, size: bytes.length })

function bytesOf(random: Random, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  for (let at = 0; at + 4 <= length; at += 4) bytes.writeUInt32LE(random.number(2 ** 32), at)
  return bytes
}
