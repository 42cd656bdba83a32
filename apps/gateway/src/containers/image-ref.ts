import type { ImageDetails } from '@strata/images'
import type { ImageRef } from '@strata/api'

/** An image as jobs name it. */
export function imageRef(image: ImageDetails): ImageRef {
  return {
    id: image.id,
    digest: image.digest,
    layers: image.layerList.map(({ digest, diffId, size }) => ({ digest, diffId, size })),
  }
}
