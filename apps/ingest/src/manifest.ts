import type { ArchiveImage } from '@strata/archive'
import { layerMediaType, MEDIA } from '@strata/oci'

/**
 * The OCI manifest of an image whose archive has none. Of fixed form, so that the same image gets
 * the same digest everywhere.
 */
export function makeManifest(image: ArchiveImage): Buffer {
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      config: { mediaType: MEDIA.config, digest: image.config.digest, size: image.config.size },
      layers: image.layers.map(({ blob, compression }) => ({
        mediaType: layerMediaType(compression ?? 'none'),
        digest: blob.digest,
        size: blob.size,
      })),
    }),
  )
}
