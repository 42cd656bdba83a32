/** Media types of image-spec 1.1 (media-types.md) and docker's of schema 2, which mean the same. */
export const MEDIA = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
  layerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  layerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
} as const

/** How a stream is packed. Found by its first bytes, never by its name or media type. */
export type Compression = 'none' | 'gzip' | 'zstd'

export function layerMediaType(compression: Compression): string {
  return { none: MEDIA.layer, gzip: MEDIA.layerGzip, zstd: MEDIA.layerZstd }[compression]
}

/**
 * Whether it is a layer of an image: image-spec's types or docker's, in any packing, those that
 * must not be distributed too.
 */
export function isLayerType(mediaType: string): boolean {
  return /^application\/vnd\.(?:oci\.image\.layer|docker\.image\.rootfs)\b/.test(mediaType)
}

/**
 * Layers that their owner does not let others give on: image-spec, media-types.md
 * ("nondistributable", which 1.1 deprecates), and what docker calls foreign layers.
 */
export function isNonDistributable(mediaType: string | undefined): boolean {
  return (
    mediaType !== undefined &&
    /^application\/vnd\.(oci\.image\.layer\.nondistributable\.v1\.tar(\+(gzip|zstd))?|docker\.image\.rootfs\.foreign\.diff\.tar(\.gzip)?)$/.test(
      mediaType,
    )
  )
}

export function isIndexType(mediaType: string | undefined): boolean {
  return mediaType === MEDIA.index || mediaType === MEDIA.dockerIndex
}

export function isManifestType(mediaType: string | undefined): boolean {
  return mediaType === MEDIA.manifest || mediaType === MEDIA.dockerManifest
}
