import { manifestSchema, MAX_JSON_BYTES, MEDIA, parseJson, type Digest, type Platform } from '@strata/oci'
import type { BlobStore } from '@strata/store'
import type { Image } from './image.js'
import { manifestFor, readWhole, type Sized, type WholeContents } from './whole.js'

/**
 * The parts of an image, as its manifest says: the bytes of the manifest, and the blobs that it
 * names.
 */
export interface ImageContents {
  /**
   * The manifest or index of the image's names; if a platform was asked for, that platform's
   * manifest.
   */
  readonly manifest: { readonly digest: Digest; readonly mediaType: string; readonly bytes: Buffer }
  /** The config of that manifest; of an index, the one that is used if no platform is asked for. */
  readonly config: Sized
  /** Lowest first. */
  readonly layers: readonly Sized[]
  /** The other parts of a multi-platform image. Absent if a platform was asked for. */
  readonly whole?: WholeContents
}

/**
 * Reads the parts of an image, for one platform if it is given.
 * @throws StrataError `not_found` if a blob of it is gone; `unsupported` if a multi-platform image
 * has not that platform; `corrupt`
 */
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
