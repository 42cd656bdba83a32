import type { MergedTree } from '../merge/merged-tree.js'

/** A part of a file: bytes of its layer's tar from `start` to `end`, or that many zeros. */
export type FilePiece = { readonly start: number; readonly end: number } | { readonly zeros: number }

/**
 * The bytes of a file from `start` to `end` (exclusive, within its size), in their order. All lie
 * in the layer `tree.layer(inode)`, each behind the one before.
 */
export function* filePieces(
  tree: MergedTree,
  inode: number,
  { start, end }: { readonly start: number; readonly end: number },
): Generator<FilePiece> {
  let at = start
  for (const { offset, size, dataOffset } of tree.sparse(inode) ?? [
    { offset: 0, size: tree.size(inode), dataOffset: tree.dataOffset(inode) },
  ]) {
    const from = Math.max(at, offset)
    const to = Math.min(end, offset + size)
    if (from >= to) continue
    if (from > at) yield { zeros: from - at }
    yield { start: dataOffset + from - offset, end: dataOffset + to - offset }
    at = to
  }
  if (at < end) yield { zeros: end - at }
}
