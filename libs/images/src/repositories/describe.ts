import { StrataError } from '@strata/base'
import {
  bestFor,
  documentSchema,
  expectConfig,
  expectDescriptors,
  HOST_PLATFORM,
  isDigest,
  isIndexType,
  isManifestType,
  MAX_JSON_BYTES,
  MEDIA,
  NOT_A_DIGEST,
  parseJson,
  parsePlatform,
  platformOf,
  textsSchema,
  type Descriptor,
  type Digest,
  type Platform,
} from '@strata/oci'
import type { BlobStore } from '@strata/store'
import { z } from 'zod'
import { deprecationOf, type Deprecation } from '../deprecation.js'
import { MAX_ATTACHED_BYTES, type Attached, type Image, type PlainManifest, type RecordedManifest } from '../image.js'
import { expectSize, readManifest } from '../manifest.js'
import { MayLack } from '../may-lack.js'
import type { Below } from './below.js'

/** A manifest's bytes as they were put, and what they are. */
export interface Document {
  readonly digest: Digest
  readonly mediaType: string
  readonly size: number
  /** Config and layers of an image manifest; nothing of an index. */
  readonly blobs: readonly Digest[]
  /** Their descriptors. */
  readonly descriptors: readonly Descriptor[]
  /** Those of the blobs that may be missing. */
  readonly mayLack: ReadonlySet<Digest>
  /** Of an index. */
  readonly children: readonly Descriptor[] | undefined
  readonly attached: Attached | undefined
  /** Of a manifest that declares one: it is no image. */
  readonly artifactType: string | undefined
  readonly deprecated: Deprecation | undefined
}

const relationsSchema = z.object({
  artifactType: z.string().max(256).nullish(),
  annotations: textsSchema.nullish(),
  subject: z.object({ digest: z.custom<Digest>(isDigest, NOT_A_DIGEST) }).nullish(),
})

/**
 * Reads any manifest of docker's schema 2 or OCI's: of an image, an index, an artifact.
 * `takesSparse`: all of its layers may be missing.
 * @throws StrataError `not_an_image` if it is none of these, or not of that media type;
 * `unsupported` for docker's schema 1; `limit_exceeded`
 */
export function readDocument(digest: Digest, bytes: Uint8Array, mediaType: string, takesSparse = false): Document {
  const what = `manifest ${digest}`
  if (/\.manifest\.v1\+(?:prettyjws|json)$/.test(mediaType) && mediaType.includes('docker'))
    throw new StrataError('unsupported', `${what} is of docker’s schema 1: push the image with a newer client`)
  if (!isIndexType(mediaType) && !isManifestType(mediaType))
    throw new StrataError('not_an_image', `${what} has the media type ${JSON.stringify(mediaType.slice(0, 100))}`)
  const document = parseJson(documentSchema, bytes, what, 'not_an_image')
  if (isIndexType(mediaType) !== (document.manifests !== undefined))
    throw new StrataError('not_an_image', `${what} is not what its media type says, ${mediaType}`)
  if (document.mediaType !== undefined && document.mediaType !== mediaType)
    throw new StrataError(
      'not_an_image',
      `${what} says that it is ${JSON.stringify(document.mediaType.slice(0, 100))}, not ${mediaType}`,
    )
  const { subject, annotations, artifactType: given } = parseJson(relationsSchema, bytes, what, 'not_an_image')
  const isIndex = document.manifests !== undefined
  const descriptors = isIndex ? document.manifests : [document.config, ...document.layers]
  expectDescriptors(descriptors, what)
  const artifactType = given ?? undefined
  const described = artifactType ?? (isIndex ? undefined : document.config.mediaType)
  return {
    digest,
    mediaType,
    size: bytes.length,
    blobs: isIndex ? [] : descriptors.map((part) => part.digest),
    descriptors: isIndex ? [] : descriptors,
    mayLack: isIndex ? new Set() : new MayLack(takesSparse).add(document).digests,
    children: isIndex ? document.manifests : undefined,
    artifactType,
    deprecated: deprecationOf(annotations),
    attached: subject
      ? {
          subject: subject.digest,
          ...(described ? { artifactType: described.slice(0, 256) } : {}),
          ...bounded(annotations),
        }
      : undefined,
  }
}

/**
 * How many bytes a manifest says that each of its blobs has. For a put: what an older version has
 * taken is read.
 * @throws StrataError `not_an_image` if it says several sizes of one blob
 */
export function sizesOf({ digest: manifest, descriptors }: Document): Map<Digest, number> {
  const sizes = new Map<Digest, number>()
  for (const { digest, size } of descriptors) {
    if ((sizes.get(digest) ?? size) !== size)
      throw new StrataError(
        'not_an_image',
        `manifest ${manifest} says that ${digest} has ${size} bytes, and another number`,
      )
    sizes.set(digest, size)
  }
  return sizes
}

function bounded(annotations: Record<string, string> | null | undefined): Pick<Attached, 'annotations'> {
  const found = annotations ?? {}
  return Buffer.byteLength(JSON.stringify(found)) <= MAX_ATTACHED_BYTES ? { annotations: found } : {}
}

/** The annotations of a manifest, from its bytes: for one whose record does not have them. */
export function annotationsOf(bytes: Uint8Array, digest: Digest): Record<string, string> {
  return parseJson(relationsSchema, bytes, `manifest ${digest}`, 'corrupt').annotations ?? {}
}

/**
 * The document as a plain manifest, for the record of a manifest that is not listed as an image.
 */
export function plainOf(
  { digest, mediaType, size, attached, deprecated }: Document,
  kept: PlainManifest['kept'],
): PlainManifest {
  return { digest, mediaType, manifestSize: size, kept, deprecated, ...(attached ? { attached } : {}) }
}

/**
 * What a tag that stands for the document carries: an image, if the document is one that can be
 * launched, or an index with one; otherwise the plain manifest. Reads the config of an image. An
 * index carries everything below it that is here as its parts, whatever it is, so that they stay
 * when their own records go.
 */
export async function describe(
  document: Document,
  bytes: Uint8Array,
  blobs: BlobStore,
  below: Below | undefined,
): Promise<RecordedManifest> {
  try {
    if (document.artifactType === undefined)
      return below
        ? await describeIndex(document, below, blobs)
        : { ...(await imageOf(document.digest, bytes, blobs)).image, mediaType: document.mediaType }
  } catch (error) {
    // No image that can be launched, or none that is all here.
    if (!(error instanceof StrataError && NO_IMAGE.has(error.code))) throw error
  }
  const plain = plainOf(document, 'tag')
  const [first] = below?.parts ?? []
  return first && below ? { ...plain, whole: { manifest: first.digest, parts: below.parts } } : plain
}

const NO_IMAGE: ReadonlySet<string> = new Set(['not_an_image', 'not_found', 'corrupt', 'limit_exceeded', 'unsupported'])

async function imageOf(
  digest: Digest,
  bytes: Uint8Array,
  blobs: BlobStore,
): Promise<{ image: Image; platform: Platform }> {
  const { image, config } = await readManifest(digest, bytes, blobs)
  expectConfig(config, `the config of image ${digest}`)
  return { image, platform: platformOf(config) }
}

async function describeIndex(
  { digest, mediaType, size: manifestSize, deprecated }: Document,
  { parts, size }: Below,
  blobs: BlobStore,
): Promise<Image> {
  expectSize(size, digest)
  const images = parts.flatMap((part) =>
    part.platform === undefined ? [] : [{ digest: part.digest, platform: parsePlatform(part.platform) }],
  )
  const meant = (bestFor(images, HOST_PLATFORM) ?? images[0])?.digest
  if (meant === undefined) throw new StrataError('not_an_image', `index ${digest} has no image here`)
  const { image } = await imageOf(meant, await blobs.read(meant, MAX_JSON_BYTES), blobs)
  return { ...image, digest, mediaType, manifestSize, size, deprecated, whole: { manifest: meant, parts } }
}

/**
 * The media type of a manifest without a record of its own, as an index that lists it would have
 * it.
 */
export function mediaTypeOfPart(bytes: Uint8Array, digest: Digest): string {
  const document = parseJson(documentSchema, bytes, `manifest ${digest}`, 'corrupt')
  return document.mediaType ?? (document.manifests === undefined ? MEDIA.manifest : MEDIA.index)
}
