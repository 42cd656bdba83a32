import { StrataError, type ErrorCode } from '@strata/base'
import { MAX_JSON_BYTES, type Platform } from '@strata/oci'
import type { BlobStore } from '@strata/store'
import type { Image } from './image.js'
import { blobsOf, readManifest, type ImageBlobs, type ReadImage } from './manifest.js'
import { blobsOfWhole, manifestFor, readWhole } from './whole.js'

/** An image with every blob that it consists of. */
export interface WithBlobs extends ReadImage, ImageBlobs {}

/**
 * The manifest and config of an image. Of a multi-platform image these are the ones of `platform`,
 * or, without it, of the platform that is used by default.
 * @throws StrataError `corrupt` if one of them is gone or changed; `unsupported` if the image is
 * not here for that platform
 */
export async function readImage(image: Image, blobs: BlobStore, platform?: Platform): Promise<ReadImage> {
  try {
    const manifest = manifestFor(image, platform)
    const read = await readManifest(manifest, await blobs.read(manifest, MAX_JSON_BYTES), blobs)
    const { digest, mediaType, manifestSize, size, deprecated, whole } = image
    return whole
      ? { ...read, image: { ...read.image, digest, mediaType, manifestSize, size, deprecated, whole } }
      : read
  } catch (error) {
    throw incomplete(image, error)
  }
}

/**
 * As `readImage`, with all documents of a multi-platform image. `takesSparse`: every layer may be
 * missing.
 */
export async function readWithBlobs(image: Image, blobs: BlobStore, takesSparse: boolean): Promise<WithBlobs> {
  const read = await readImage(image, blobs)
  if (!image.whole) return { ...read, ...blobsOf(read, takesSparse) }
  try {
    return { ...read, ...blobsOfWhole(image, await readWhole(image, blobs, takesSparse)) }
  } catch (error) {
    throw incomplete(image, error)
  }
}

/**
 * The same error; but `not_found` becomes an error with `code`, whose message begins with `what`.
 */
export function ifNotFound(error: unknown, code: ErrorCode, what: string): unknown {
  return error instanceof StrataError && error.code === 'not_found'
    ? new StrataError(code, `${what}: ${error.message}`, { cause: error })
    : error
}

function incomplete({ digest }: Image, error: unknown): unknown {
  return ifNotFound(error, 'corrupt', `image ${digest} is incomplete`)
}
