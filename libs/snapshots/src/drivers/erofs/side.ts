import { closeSync, fsyncSync, ftruncateSync, openSync } from 'node:fs'
import { KIND, type MergedTree } from '@strata/layers'
import { copyData } from '../../layers/copy-data.js'

const BLOCK = 512

/** The place in the side file of the data of each file that cannot be mapped in its tar. */
export interface SidePlan {
  /** Offset in the side file by inode. */
  readonly offsets: ReadonlyMap<number, number>
  /** Bytes, a multiple of 512. */
  readonly size: number
}

/**
 * EROFS maps a file as one run of whole blocks of 512 bytes. Data that have no such run in their
 * tar go into the side file: sparse files, and a file at the end of a tar that lacks the last
 * block's padding (a read of that block would be an I/O error).
 */
export function planSide(tree: MergedTree): SidePlan {
  const offsets = new Map<number, number>()
  let size = 0
  for (let inode = 0; inode < tree.inodeCount; inode++) {
    if (tree.kind(inode) !== KIND.file || tree.size(inode) === 0 || isMapped(tree, inode)) continue
    offsets.set(inode, size)
    size += blocks(tree.size(inode)) * BLOCK
  }
  return { offsets, size }
}

function isMapped(tree: MergedTree, inode: number): boolean {
  if (tree.sparse(inode)) return false
  const offset = tree.dataOffset(inode)
  const { tarSize } = tree.layers[tree.layer(inode)]!
  return offset % BLOCK === 0 && offset / BLOCK + blocks(tree.size(inode)) <= Math.floor(tarSize / BLOCK)
}

function blocks(bytes: number): number {
  return Math.ceil(bytes / BLOCK)
}

/**
 * Writes the side file. Holes stay holes, so a file takes only the space of its data. It is on disk
 * when this returns: nothing could show later whether it was complete.
 */
export function writeSide(path: string, plan: SidePlan, tree: MergedTree, tars: readonly number[]): void {
  const side = openSync(path, 'wx', 0o400)
  try {
    ftruncateSync(side, plan.size)
    for (const [inode, base] of plan.offsets) {
      const ranges = tree.sparse(inode) ?? [{ offset: 0, size: tree.size(inode), dataOffset: tree.dataOffset(inode) }]
      for (const { offset, size, dataOffset } of ranges)
        copyData(tars[tree.layer(inode)]!, dataOffset, side, base + offset, size)
    }
    fsyncSync(side)
  } finally {
    closeSync(side)
  }
}
