import { ENTRY, writeEntry, zerosAfter, END_OF_TAR, type EntryType } from '@strata/archive'
import { KIND, type Kind } from '../kind.js'
import type { MergedTree } from '../merge/merged-tree.js'

/** A part of an exported tar: bytes at hand, or bytes of a layer's tar. */
export type ExportPiece =
  { readonly bytes: Buffer } | { readonly layer: number; readonly start: number; readonly end: number }

const TYPES: Partial<Record<Kind, EntryType>> = {
  [KIND.file]: ENTRY.file,
  [KIND.directory]: ENTRY.directory,
  [KIND.symlink]: ENTRY.symlink,
  [KIND.char]: ENTRY.char,
  [KIND.block]: ENTRY.block,
  [KIND.fifo]: ENTRY.fifo,
}
const ROOT = Buffer.from('./')
const SLASH = Buffer.from('/')

/**
 * A merged view as one tar, the same bytes for the same layers always: folders first, then what has
 * no data, then the files layer by layer as they lie in their tars, and then further names of what
 * is written by then. So each layer is read once from its beginning to its end, however it is
 * packed. Sparse files stay sparse.
 */
export function* exportTree(tree: MergedTree): Generator<ExportPiece> {
  const files: number[][] = tree.layers.map(() => [])
  for (const pass of ['folders', 'without data'] as const) {
    for (let inode = 0; inode < tree.inodeCount; inode++) {
      const kind = tree.kind(inode)
      if ((kind === KIND.directory) !== (pass === 'folders')) continue
      if (kind === KIND.file && tree.size(inode) > 0) files[tree.layer(inode)]!.push(inode)
      else yield { bytes: headerOf(tree, inode) }
    }
  }
  for (const [layer, inodes] of files.entries()) {
    inodes.sort((a, b) => tree.dataStart(a) - tree.dataStart(b))
    for (const inode of inodes) yield* file(tree, layer, inode)
  }
  for (let node = 0; node < tree.nodeCount; node++) {
    const inode = tree.inode(node)
    if (tree.node(inode) !== node) yield { bytes: linkTo(tree, node, inode) }
  }
  yield { bytes: END_OF_TAR }
}

/**
 * What of the pieces lies between `start` and `end` (exclusive), counted from the tar's beginning.
 */
export async function* slicePieces(
  pieces: AsyncIterable<ExportPiece> | Iterable<ExportPiece>,
  { start, end }: { readonly start: number; readonly end: number },
): AsyncGenerator<ExportPiece> {
  let at = 0
  for await (const piece of pieces) {
    if (at >= end) return
    const length = pieceLength(piece)
    const from = Math.max(0, start - at)
    const to = Math.min(length, end - at)
    at += length
    if (from >= to) continue
    yield 'bytes' in piece
      ? { bytes: piece.bytes.subarray(from, to) }
      : { ...piece, start: piece.start + from, end: piece.start + to }
  }
}

export function pieceLength(piece: ExportPiece): number {
  return 'bytes' in piece ? piece.bytes.length : piece.end - piece.start
}

function* file(tree: MergedTree, layer: number, inode: number): Generator<ExportPiece> {
  yield { bytes: headerOf(tree, inode) }
  let stored = 0
  for (const { size, dataOffset } of tree.sparse(inode) ?? [
    { size: tree.size(inode), dataOffset: tree.dataOffset(inode) },
  ]) {
    yield { layer, start: dataOffset, end: dataOffset + size }
    stored += size
  }
  const padding = zerosAfter(stored)
  if (padding.length > 0) yield { bytes: padding }
}

function headerOf(tree: MergedTree, inode: number): Buffer {
  const kind = tree.kind(inode)
  const isDevice = kind === KIND.char || kind === KIND.block
  const path = tree.path(tree.node(inode))
  return writeEntry({
    path: kind !== KIND.directory ? path : path.length === 0 ? ROOT : Buffer.concat([path, SLASH]),
    // A merged view has none of the kinds that are no inode.
    type: TYPES[kind]!,
    ...(kind === KIND.symlink ? { link: tree.symlink(inode) } : {}),
    ...attributesOf(tree, inode),
    size: tree.size(inode),
    ...(isDevice ? { devMajor: tree.major(inode), devMinor: tree.minor(inode) } : {}),
    xattrs: tree.xattrs(inode),
    sparse: tree.sparse(inode),
  })
}

function linkTo(tree: MergedTree, node: number, inode: number): Buffer {
  return writeEntry({
    path: tree.path(node),
    type: ENTRY.hardlink,
    link: tree.path(tree.node(inode)),
    ...attributesOf(tree, inode),
    size: 0,
  })
}

function attributesOf(
  tree: MergedTree,
  inode: number,
): { mode: number; uid: number; gid: number; mtime: number; mtimeNanos: number } {
  return {
    mode: tree.mode(inode) & 0o7777,
    uid: tree.uid(inode),
    gid: tree.gid(inode),
    mtime: tree.mtime(inode),
    mtimeNanos: tree.mtimeNanos(inode),
  }
}
