import { StrataError } from '@strata/base'
import {
  bestFor,
  documentSchema,
  formatPlatform,
  MAX_JSON_BYTES,
  MEDIA,
  parseJson,
  parsePlatform,
  type Descriptor,
  type Digest,
  type Platform,
} from '@strata/oci'
import type { BlobStore } from '@strata/store'
import type { z } from 'zod'
import { MAX_PARTS, type Image } from './image.js'

/**
 * The manifest of the image for a platform; without one, the manifest that is used then.
 * @throws StrataError `unsupported`
 */
export function manifestFor({ digest, whole }: Image, platform?: Platform): Digest {
  if (!whole) return digest
  if (!platform) return whole.manifest
  const images = whole.parts.flatMap((part) =>
    part.platform === undefined ? [] : [{ digest: part.digest, platform: parsePlatform(part.platform) }],
  )
  const found = bestFor(images, platform)
  if (!found)
    throw new StrataError(
      'unsupported',
      `the image ${digest} is here for ${images.map((image) => formatPlatform(image.platform)).join(', ')}, but not for ${formatPlatform(platform)}`,
    )
  return found.digest
}

/** As `united`, for a record that is to be written. @throws StrataError `limit_exceeded` */
export function unitedRecord(seen: Image, other: Image): Image {
  const record = united(seen, other)
  if ((record.whole?.parts.length ?? 0) > MAX_PARTS)
    throw new StrataError('limit_exceeded', `the image ${seen.digest} would have more than ${MAX_PARTS} manifests`)
  return record
}

/**
 * Joins two records of one digest: the store has the parts that either of them lists. Gives `seen`
 * itself if the other adds nothing.
 */
export function united(seen: Image, other: Image): Image {
  const parts = new Map(
    [...(seen.whole?.parts ?? []), ...(other.whole?.parts ?? [])].map((part) => [part.digest, part]),
  )
  if (!other.whole || parts.size === seen.whole?.parts.length) return seen
  return {
    ...other,
    size: Math.max(seen.size, other.size),
    whole: { manifest: other.whole.manifest, parts: [...parts.values()] },
  }
}

export interface Sized {
  readonly digest: Digest
  readonly size: number
}
export interface WholeContents {
  /** Manifests and indexes below and beside the root. */
  readonly documents: readonly Sized[]
  /**
   * The documents that neither the root nor an index below it names: they are attached to one that
   * is named.
   */
  readonly attached: readonly (Sized & { readonly mediaType: string })[]
  /** Configs, and the blobs that attached manifests name. */
  readonly blobs: readonly Sized[]
  readonly layers: readonly Sized[]
}

/**
 * Everything that a whole image consists of but its root. Reads each of its documents.
 * @throws StrataError `not_found`, `corrupt`
 */
export async function readWhole(image: Pick<Image, 'digest' | 'whole'>, blobs: BlobStore): Promise<WholeContents> {
  const [documents, others, layers] = [new Map<Digest, Sized>(), new Map<Digest, Sized>(), new Map<Digest, Sized>()]
  const attached: WholeContents['attached'][number][] = []
  const named = new Set(await childrenOf(image.digest, blobs))
  const parts = image.whole?.parts ?? []
  for (const { digest, platform } of parts) {
    const bytes = await blobs.read(digest, MAX_JSON_BYTES)
    if (digest !== image.digest) documents.set(digest, { digest, size: bytes.length })
    const document = parseDocument(bytes, digest)
    if (document.manifests !== undefined) {
      for (const child of document.manifests) named.add(child.digest)
      continue
    }
    add(others, document.config)
    for (const layer of document.layers) add(platform === undefined ? others : layers, layer)
    if (platform === undefined && document.subject)
      attached.push({ digest, size: bytes.length, mediaType: document.mediaType ?? MEDIA.manifest })
  }
  return {
    documents: [...documents.values()],
    attached: attached.filter(({ digest }) => !named.has(digest)),
    blobs: [...others.values()],
    layers: [...layers.values()],
  }
}

/** Every blob that a whole image is made of, and its size. */
export function blobsOfWhole(
  { digest, manifestSize }: Image,
  { documents, blobs, layers }: WholeContents,
): Map<Digest, number> {
  return new Map(
    [{ digest, size: manifestSize }, ...documents, ...blobs, ...layers].map((part) => [part.digest, part.size]),
  )
}

async function childrenOf(digest: Digest, blobs: BlobStore): Promise<Digest[]> {
  return (parseDocument(await blobs.read(digest, MAX_JSON_BYTES), digest).manifests ?? []).map((child) => child.digest)
}

function parseDocument(bytes: Uint8Array, digest: Digest): z.infer<typeof documentSchema> {
  return parseJson(documentSchema, bytes, `manifest ${digest}`, 'corrupt')
}

function add(to: Map<Digest, Sized>, { digest, size }: Descriptor): void {
  to.set(digest, { digest, size })
}
