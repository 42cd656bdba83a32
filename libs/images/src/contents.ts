import { manifestSchema, MAX_JSON_BYTES, parseJson, type Digest } from '@strata/oci'
import type { BlobStore } from '@strata/store'
import type { Image } from './image.js'

/** What an image consists of, as its manifest says: the manifest as it is kept, and the blobs it names. */
export interface ImageContents {
  readonly manifest: { readonly digest: Digest; readonly mediaType: string; readonly bytes: Buffer }
  readonly config: { readonly digest: Digest; readonly size: number }
  /** Lowest first. */
  readonly layers: readonly { readonly digest: Digest; readonly size: number }[]
}

/** @throws StrataError `not_found` if the image has gone */
export async function readContents(image: Image, blobs: BlobStore): Promise<ImageContents> {
  const { digest, mediaType } = image
  const bytes = await blobs.read(digest, MAX_JSON_BYTES)
  const { config, layers } = parseJson(manifestSchema, bytes, `manifest ${digest}`, 'corrupt')
  const sized = ({ digest, size }: { digest: Digest; size: number }): { digest: Digest; size: number } => ({ digest, size })
  return { manifest: { digest, mediaType, bytes }, config: sized(config), layers: layers.map(sized) }
}
