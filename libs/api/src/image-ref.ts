import { z } from 'zod'
import { diffId, digest } from './common.js'

export const layerRefSchema = z.object({ digest, diffId, size: z.number().int().nonnegative() })
/** A layer as jobs and the node API name it: its blob, and what that is once inflated. */
export type LayerRef = z.infer<typeof layerRefSchema>

/** An image as jobs and the node API name it. */
export const imageRefSchema = z.object({ id: digest, digest, layers: z.array(layerRefSchema).max(10_000) })
export type ImageRef = z.infer<typeof imageRefSchema>

/** @param image as the images' library describes it */
export function imageRef(
  image: Pick<ImageRef, 'id' | 'digest'> & { readonly layerList: readonly LayerRef[] },
): ImageRef {
  return {
    id: image.id,
    digest: image.digest,
    layers: image.layerList.map(({ digest, diffId, size }) => ({ digest, diffId, size })),
  }
}
