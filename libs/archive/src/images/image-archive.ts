import { StrataError } from '@strata/base'
import { diffIdsOf, type Compression, type DiffId, type ImageConfig, type Platform, type Reference } from '@strata/oci'
import type { BlobSource, KeptBlob, MadeBlob } from '../listing.js'
import type { ArchiveFile } from './resolve-files.js'

export interface ArchiveLayer {
  readonly blob: BlobSource | KeptBlob
  /** `undefined` for a layer that the archive leaves out because the receiver has it. */
  readonly compression: Compression | undefined
  /** Proven where `compression` is `none`; else what the config says. */
  readonly diffId: DiffId
}

/** An image found in an archive, with where each of its parts lies. */
export interface ArchiveImage {
  /** Made where the archive has none: docker before 1.10. */
  readonly config: BlobSource | MadeBlob
  /**
   * The manifest's bytes as the archive has them; absent where it has none (docker before 25,
   * podman's docker-archive).
   */
  readonly manifest?: BlobSource
  /** Lowest first. May be empty: a config alone is an image. */
  readonly layers: readonly ArchiveLayer[]
  /** Each with a tag, none twice. Empty: the image is untagged. */
  readonly names: readonly Reference[]
  readonly platform: Platform
  /**
   * Platforms that an index names for this image and that are not in the archive, as `linux/arm64`.
   */
  readonly missing?: readonly string[]
  /** Where all of an image is wanted and there is more than this. */
  readonly whole?: ArchiveWhole
}

/** All that an image's name stands for: its other platforms, and what is attached to it. */
export interface ArchiveWhole {
  /**
   * What the names stand for: an index; the image's own manifest where that has attachments only.
   */
  readonly root: BlobSource | MadeBlob
  /** The image for each other platform, without names. */
  readonly others: readonly ArchiveImage[]
  /**
   * Indexes below the root and manifests of attestations, signatures and the like: kept as they
   * are.
   */
  readonly documents: readonly BlobSource[]
  /** What those manifests name. */
  readonly blobs: readonly BlobSource[]
}

/**
 * The layers against the config, which lists as many diffIDs; `label` says in a message which image
 * it is.
 */
export function layersOf(
  layers: readonly (ArchiveFile | KeptBlob)[],
  config: ImageConfig,
  label: string,
): ArchiveLayer[] {
  const diffIds = diffIdsOf(config)
  if (diffIds.length !== layers.length) {
    throw new StrataError(
      'archive_invalid',
      `the image ${label} has ${layers.length} ${layers.length === 1 ? 'layer' : 'layers'}, but its config lists ${diffIds.length}`,
    )
  }
  return layers.map((layer, at) =>
    'kept' in layer ? { blob: layer, compression: undefined, diffId: diffIds[at]! } : layerOf(layer, diffIds[at]!),
  )
}

function layerOf({ path, entry, blob }: ArchiveFile, diffId: DiffId): ArchiveLayer {
  if (entry.layerError) throw new StrataError(entry.layerError.code, entry.layerError.message)
  const compression = entry.compression ?? 'none'
  const found = entry.diffId ?? blob.digest
  if (compression === 'none' && found !== diffId) {
    throw new StrataError(
      'digest_mismatch',
      `the layer ${path} is ${found}, but the image’s config lists ${diffId} there`,
    )
  }
  return { blob, compression, diffId }
}
