import { StrataError } from '@strata/base'
import {
  bestFor,
  documentSchema,
  expectConfig,
  expectDescriptors,
  formatPlatform,
  HOST_PLATFORM,
  isDigest,
  isIndexType,
  isManifestType,
  MEDIA,
  NOT_A_DIGEST,
  parseJson,
  platformOf,
  type Descriptor,
  type Digest,
  type Platform,
} from '@strata/oci'
import type { BlobStore } from '@strata/store'
import { z } from 'zod'
import {
  MAX_ATTACHED_BYTES,
  MAX_PARTS,
  type Attached,
  type Image,
  type PlainManifest,
  type RecordedManifest,
  type Whole,
} from '../image.js'
import { readManifest } from '../manifest.js'
import { readWhole } from '../whole.js'

/** A manifest's bytes as they were put, and what they are. */
export interface Document {
  readonly digest: Digest
  readonly mediaType: string
  readonly size: number
  /** Config and layers of an image manifest; nothing of an index. */
  readonly blobs: readonly Digest[]
  /** Of an index. */
  readonly children: readonly Descriptor[] | undefined
  readonly attached: Attached | undefined
  /** Of a manifest that says that it is no image. */
  readonly artifactType: string | undefined
}

const relationsSchema = z.object({
  artifactType: z.string().max(256).nullish(),
  annotations: z.record(z.string(), z.string()).nullish(),
  subject: z.object({ digest: z.custom<Digest>(isDigest, NOT_A_DIGEST) }).nullish(),
})

/**
 * Reads any manifest of docker's schema 2 or OCI's: of an image, an index, an artifact.
 * @throws StrataError `not_an_image` if it is none of these, or not of that media type;
 * `unsupported` for docker's schema 1; `limit_exceeded`
 */
export function readDocument(digest: Digest, bytes: Uint8Array, mediaType: string): Document {
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
    children: isIndex ? document.manifests : undefined,
    artifactType,
    attached: subject
      ? {
          subject: subject.digest,
          ...(described ? { artifactType: described.slice(0, 256) } : {}),
          ...bounded(annotations),
        }
      : undefined,
  }
}

function bounded(annotations: Record<string, string> | null | undefined): Pick<Attached, 'annotations'> {
  const found = annotations ?? {}
  return Buffer.byteLength(JSON.stringify(found)) <= MAX_ATTACHED_BYTES ? { annotations: found } : {}
}

/** The annotations of a manifest that are not in its record. */
export function annotationsOf(bytes: Uint8Array, digest: Digest): Record<string, string> {
  return parseJson(relationsSchema, bytes, `manifest ${digest}`, 'corrupt').annotations ?? {}
}

/** As the record of a manifest that is not listed as an image. */
export function plainOf({ digest, mediaType, size, attached }: Document, kept: PlainManifest['kept']): PlainManifest {
  return { digest, mediaType, manifestSize: size, kept, ...(attached ? { attached } : {}) }
}

/**
 * What a tag that stands for the document carries: an image, if the document is one that can be
 * launched, or an index with one; otherwise the plain manifest. Reads the config of an image, and
 * of an index the children that the repository has. An index carries these as its parts, whatever
 * it is, so that they stay when their own records go.
 */
export async function describe(
  document: Document,
  bytes: Uint8Array,
  blobs: BlobStore,
  isInRepository: (digest: Digest) => Promise<boolean>,
): Promise<RecordedManifest> {
  let parts: readonly Descriptor[] = []
  try {
    if (document.children) parts = await partsHere(document.children, isInRepository)
    if (document.artifactType === undefined)
      return document.children
        ? await describeIndex(document, parts, blobs)
        : { ...(await imageOf(document.digest, bytes, blobs)).image, mediaType: document.mediaType }
  } catch (error) {
    // No image that can be launched, or none that is all here.
    if (!(error instanceof StrataError && NO_IMAGE.has(error.code))) throw error
  }
  return withParts(plainOf(document, 'tag'), parts, blobs)
}

/** What cannot be read is left out: it must not keep the index from being put. */
async function withParts(plain: PlainManifest, parts: readonly Descriptor[], blobs: BlobStore): Promise<PlainManifest> {
  const [first] = parts
  if (!first) return plain
  const found = { ...plain, whole: wholeOf(first.digest, parts) }
  try {
    await readWhole(found, blobs)
    return found
  } catch (error) {
    if (!(error instanceof StrataError && NO_IMAGE.has(error.code))) throw error
    return plain
  }
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

/** The children that the repository has, in the order of the index. */
async function partsHere(
  children: readonly Descriptor[],
  isInRepository: (digest: Digest) => Promise<boolean>,
): Promise<Descriptor[]> {
  const here: Descriptor[] = []
  const left = children.slice(0, MAX_PARTS)
  while (left.length > 0)
    await Promise.all(
      left.splice(0, 16).map(async (child) => {
        if (await isInRepository(child.digest)) here.push(child)
      }),
    )
  return children.filter((child) => here.includes(child))
}

function wholeOf(manifest: Digest, parts: readonly Descriptor[]): Whole {
  return {
    manifest,
    parts: [...new Map(parts.map((child) => [child.digest, child])).values()].map((child) =>
      isImagePart(child)
        ? { digest: child.digest, platform: formatPlatform(child.platform) }
        : { digest: child.digest },
    ),
  }
}

async function describeIndex(
  { digest, mediaType, size }: Document,
  parts: readonly Descriptor[],
  blobs: BlobStore,
): Promise<Image> {
  const images = parts.flatMap((child) => (isImagePart(child) ? [{ child, platform: child.platform }] : []))
  const meant = bestFor(images, HOST_PLATFORM) ?? images[0]
  if (!meant) throw new StrataError('not_an_image', `index ${digest} has no image here`)
  const { image } = await imageOf(meant.child.digest, await blobs.read(meant.child.digest, MAX_CHILD_BYTES), blobs)
  const whole: Image = {
    ...image,
    digest,
    mediaType,
    manifestSize: size,
    whole: wholeOf(meant.child.digest, parts),
  }
  const { layers } = await readWhole(whole, blobs)
  return { ...whole, size: layers.reduce((sum, layer) => sum + layer.size, 0) }
}

const MAX_CHILD_BYTES = 4 * 1024 * 1024

/** An attestation says that it is for `unknown/unknown`. */
function isImagePart(child: Descriptor): child is Descriptor & { readonly platform: Platform } {
  const { platform, mediaType } = child
  return (
    platform !== undefined &&
    platform !== null &&
    platform.os !== 'unknown' &&
    (mediaType === undefined || isManifestType(mediaType))
  )
}

/** As an index that lists it would: for a manifest that has no record of its own. */
export function mediaTypeOfPart(bytes: Uint8Array, digest: Digest): string {
  const document = parseJson(documentSchema, bytes, `manifest ${digest}`, 'corrupt')
  return document.mediaType ?? (document.manifests === undefined ? MEDIA.manifest : MEDIA.index)
}
