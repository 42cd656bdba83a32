import { randomUUID } from 'node:crypto'
import { existsSync, lstatSync, mkdirSync, readdirSync, renameSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { hexOf, isDigest, type DiffId } from '@strata/oci'

/**
 * A layer as a node keeps it: the uncompressed tar and the encoded index of it, both complete and
 * read-only.
 */
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
 *     <folder>/tmp/<random>/        in the making, or on its way out; a layer appears and goes by one rename, so what is there is whole
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

  /** The layers that are there, in the order of their diffIDs. */
  list(): DiffId[] {
    if (!existsSync(this.path)) return []
    return readdirSync(this.path)
      .map((name) => `sha256:${name}`)
      .filter((name): name is DiffId => isDigest(name))
      .sort()
  }

  /**
   * Bytes on disk of the layer, its folder among them; nothing if it is not there. `own`: without a
   * file that has another name too (the blob it is a link to), so what would be free if the layer
   * went now.
   */
  bytes(diffId: DiffId, own = false): number {
    const { tar, index } = this.paths(diffId)
    return [this.folderOf(diffId), tar, index].reduce((sum, path) => {
      const stats = lstatSync(path, { throwIfNoEntry: false })
      return stats && !(own && stats.isFile() && stats.nlink > 1) ? sum + stats.blocks * 512 : sum
    }, 0)
  }

  /**
   * Takes away every layer that one of these files is of; they are named relative to the folder.
   */
  async removeHolding(files: readonly string[]): Promise<void> {
    const holders = new Set(files.map((file) => `sha256:${file.split('/')[0]!}`))
    for (const diffId of this.list()) if (holders.has(diffId)) await this.remove(diffId)
  }

  /**
   * Takes a layer away by one rename, within this turn of the event loop; the promise is of its
   * bytes being deleted. Nothing if it is not there. Whether somebody needs it is the caller's to
   * know. A killed process leaves it in `tmp`, which the extractor empties at its start.
   */
  async remove(diffId: DiffId): Promise<void> {
    const aside = join(this.path, 'tmp', randomUUID())
    mkdirSync(join(this.path, 'tmp'), { recursive: true, mode: 0o700 })
    try {
      renameSync(this.folderOf(diffId), aside)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
      throw error
    }
    await rm(aside, { recursive: true, force: true })
  }
}
