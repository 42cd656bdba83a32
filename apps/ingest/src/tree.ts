import type { ArchiveImage, ArchiveListing, BlobSource } from '@strata/archive'
import { treeConfig, treeImageSchema } from '@strata/images'
import { StrataError } from '@strata/base'
import { parseJson, parseTagged, type Compression, type DiffId } from '@strata/oci'

/** The one file that an import brought. */
export interface TreeLayer {
  readonly blob: BlobSource
  readonly compression: Compression
  /** Of a plain tar, which was walked and indexed while it came. */
  readonly diffId: DiffId | undefined
}

/**
 * @throws StrataError `layer_invalid` and what else a layer is refused for, if it is known already
 * that it cannot be one
 */
export function treeLayer({ entries: [entry] }: ArchiveListing): TreeLayer {
  if (!entry?.digest || !entry.at)
    throw new StrataError('corrupt', 'the list of an import’s body does not say where it lies')
  const { digest, size, at, compression = 'none', diffId, layerError } = entry
  if (layerError) throw new StrataError(layerError.code, layerError.message)
  if (compression === 'none' && diffId === undefined)
    throw new StrataError('layer_invalid', 'this is not a tar: its first block is no tar header')
  return { blob: { digest, size, at }, compression, diffId }
}

/** The image of a layer: its config is made of the recipe that came with the request. */
export function treeImage(
  recipe: Buffer,
  { blob, compression }: TreeLayer,
  diffId: DiffId,
  name: string | undefined,
): ArchiveImage {
  const tree = parseJson(treeImageSchema, recipe, 'the recipe of an import', 'corrupt')
  const { digest, bytes } = treeConfig(tree, diffId)
  return {
    config: { digest, size: bytes.length, bytes },
    layers: [{ blob, compression, diffId }],
    names: name === undefined ? [] : [parseTagged(name)],
    platform: tree.platform,
  }
}
