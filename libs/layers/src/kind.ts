/**
 * What an entry of a layer's index is. The values stand in the encoded index: they never change
 * their meaning within a version.
 */
export const KIND = {
  file: 0,
  directory: 1,
  symlink: 2,
  char: 3,
  block: 4,
  fifo: 5,
  /** One more name of an earlier entry of the same layer. */
  link: 6,
  /** One more name of something in the layers below, given by its path there. */
  lowerLink: 7,
  /** Nothing here, and what the layers below have under this name is hidden. */
  whiteout: 8,
} as const
export type Kind = (typeof KIND)[keyof typeof KIND]

export const FLAG = {
  /**
   * A directory the tar only implies (an entry below it, none for itself). Its own attributes count
   * only if nothing below has it.
   */
  implied: 1,
  /** A directory whose lower contents are hidden (`.wh..wh..opq`). */
  opaque: 2,
  /** The lower thing of this name is removed first (`.wh.<name>` beside an entry of that name). */
  whiteout: 4,
  /** The file's data are the ranges of the sparse table, not one run. */
  sparse: 8,
  /** Has rows in the table of extended attributes. */
  xattrs: 16,
} as const

export type Xattr = readonly [name: Buffer, value: Buffer]

/** `size` bytes of a sparse file at `offset` are at `dataOffset` of the tar; all else is zeros. */
export interface SparseRange {
  readonly offset: number
  readonly size: number
  readonly dataOffset: number
}

const TYPE_BITS: Partial<Record<Kind, number>> = {
  [KIND.fifo]: 0o010000,
  [KIND.char]: 0o020000,
  [KIND.directory]: 0o040000,
  [KIND.block]: 0o060000,
  [KIND.file]: 0o100000,
  [KIND.symlink]: 0o120000,
}

/** The S_IFMT bits of a kind that is an inode of its own (inode(7)); 0 for links and whiteouts. */
export function typeBits(kind: Kind): number {
  return TYPE_BITS[kind] ?? 0
}
