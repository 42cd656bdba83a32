import { manifestSchema, MAX_JSON_BYTES, MEDIA, parseJson, type Digest, type Platform } from '@strata/oci'
import type { BlobStore } from '@strata/store'
import type { Image } from './image.js'
import { manifestFor, readWhole, type Sized, type WholeContents } from './whole.js'

/**
 * What an image consists of, as its manifest says: the manifest as it is kept, and the blobs it
 * names.
 */
export interface ImageContents {
  /** What the image's names stand for: its manifest, or the index of its platforms. */
  readonly manifest: { readonly digest: Digest; readonly mediaType: string; readonly bytes: Buffer }
  /** Of the image that is meant without a platform. */
  readonly config: Sized
  /** Lowest first. */
  readonly layers: readonly Sized[]
  /** The rest of an image that is kept whole. */
  readonly whole?: WholeContents
}

/** @throws StrataError `not_found` if the image has gone */
export async function readContents(image: Image, blobs: BlobStore, platform?: Platform): Promise<ImageContents> {
  const digest = manifestFor(image, platform)
  const bytes = await blobs.read(digest, MAX_JSON_BYTES)
  const { config, layers, mediaType } = parseJson(manifestSchema, bytes, `manifest ${digest}`, 'corrupt')
  const own = {
    manifest: { digest, mediaType: image.whole ? (mediaType ?? MEDIA.manifest) : image.mediaType, bytes },
    config: sized(config),
    layers: layers.map(sized),
  }
  if (!image.whole || platform) return own
  const root = {
    digest: image.digest,
    mediaType: image.mediaType,
    bytes: await blobs.read(image.digest, MAX_JSON_BYTES),
  }
  return { ...own, manifest: root, whole: await readWhole(image, blobs) }
}

function sized({ digest, size }: Sized): Sized {
  return { digest, size }
}
