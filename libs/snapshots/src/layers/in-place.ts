import { closeSync, lstatSync, unlinkSync } from 'node:fs'
import { llistxattr, lremovexattr, mkdirat } from '@strata/linux'
import { below, namesIn, openFolder, removeTree } from '../trees/tree.js'
import type { LayerForm } from './apply-layers.js'

/**
 * Applies layers to one folder that has the whole tree: what a layer hides is deleted. For drivers
 * that copy the tree below (plain copies, a snapshot of a subvolume or of a thin device) and then
 * apply the next layer to the copy.
 *
 * `aside`: a path on the same file system. Nothing lies there, nor at the path with any suffix.
 */
export function inPlace(aside: string): LayerForm {
  const remove = (dirfd: number, name: Buffer): void => {
    const path = below(dirfd, name)
    const stats = lstatSync(path, { throwIfNoEntry: false })
    if (stats?.isDirectory()) removeTree(path, aside)
    else if (stats) unlinkSync(path)
  }
  return {
    directory(dirfd, name) {
      const path = below(dirfd, name)
      if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) {
        // The directory gets the attributes of this layer's entry, which may have fewer.
        for (const attribute of llistxattr(path)) lremovexattr(path, attribute)
        return
      }
      remove(dirfd, name)
      mkdirat(dirfd, name, 0o700)
    },
    opaque(dirfd, name) {
      const folder = openFolder(below(dirfd, name))
      try {
        for (const inside of namesIn(`/proc/self/fd/${folder}`)) remove(folder, inside.name)
      } finally {
        closeSync(folder)
      }
    },
    makeWay: remove,
    whiteout: remove,
  }
}
