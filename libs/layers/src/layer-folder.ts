import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { hexOf, type DiffId } from '@strata/oci'

/** A layer as a node keeps it: the uncompressed tar and the encoded index of it, both complete and read-only. */
export interface LayerPaths {
  readonly diffId: DiffId
  readonly tar: string
  readonly index: string
}

/**
 * Where a node's layers lie, each made once for all images:
 *
 *     <folder>/<hex>/layer.tar      0444; its sha256 is the diffID. A link to the blob's file where both are on one file system
 *     <folder>/<hex>/index          the LayerIndex of it
 *     <folder>/tmp/<random>/        in the making; a layer appears by one rename, so what is there is whole
 */
export class LayerFolder {
  constructor(readonly path: string) {}

  folderOf(diffId: DiffId): string {
    return join(this.path, hexOf(diffId))
  }

  paths(diffId: DiffId): LayerPaths {
    const folder = this.folderOf(diffId)
    return { diffId, tar: join(folder, 'layer.tar'), index: join(folder, 'index') }
  }

  has(diffId: DiffId): boolean {
    return existsSync(this.paths(diffId).index)
  }
}
