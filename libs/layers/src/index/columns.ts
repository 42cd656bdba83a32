/**
 * A layer's index as columns: one typed array a field, one place in each an entry.
 *
 * Entry 0 is the root. Entries stand breadth first, the children of a directory next to each other
 * and sorted by the bytes of their names, so that the same tree has one index only, a directory is
 * a range, and merging needs no look-up table.
 */
export interface EntryColumns {
  /** Seconds since 1970; may be negative. */
  readonly mtime: Float64Array
  /** Bytes of a file as it is read; else 0. */
  readonly size: Float64Array
  /**
   * By kind: file, where its data begin in the tar; link, the entry it names; char and block, major
   * × 2^20 + minor; else 0.
   */
  readonly value: Float64Array
  readonly parent: Uint32Array
  /**
   * `names[textEnd[i - 1], nameEnd[i])` is the name, `names[nameEnd[i], textEnd[i])` a symbolic
   * link's target or a lower link's path.
   */
  readonly nameEnd: Uint32Array
  readonly textEnd: Uint32Array
  readonly uid: Uint32Array
  readonly gid: Uint32Array
  readonly nanos: Uint32Array
  /** Permission bits with set-uid, set-gid, sticky; no type bits. */
  readonly mode: Uint16Array
  readonly kind: Uint8Array
  readonly flags: Uint8Array
}

/**
 * Extended attributes, each kept once, and each set of them once: an entry has a set, a set is a
 * run of attributes. Sets are numbered in the order of their first owners, attributes in the order
 * of their first sets.
 */
export interface XattrColumns {
  /** By owner: its entry, ascending, and its set. */
  readonly owner: Uint32Array
  readonly set: Uint32Array
  /** By set: its attributes are `members[setEnd[s - 1], setEnd[s])`, sorted by name. */
  readonly setEnd: Uint32Array
  readonly members: Uint32Array
  /** By attribute: its name and value lie in `bytes` as names and texts do above. */
  readonly nameEnd: Uint32Array
  readonly valueEnd: Uint32Array
  readonly bytes: Buffer
}

/** Rows sorted by owner, then offset. */
export interface SparseColumns {
  readonly offset: Float64Array
  readonly size: Float64Array
  readonly data: Float64Array
  readonly owner: Uint32Array
}

/** How many rows there are of each kind, and bytes of names and of extended attributes. */
export interface IndexCounts {
  readonly entries: number
  readonly names: number
  readonly owners: number
  readonly sets: number
  readonly members: number
  readonly xattrs: number
  readonly xattrBytes: number
  readonly sparse: number
}

export interface IndexColumns {
  /** Bytes of the layer's tar. */
  readonly tarSize: number
  readonly entries: EntryColumns
  readonly names: Buffer
  readonly xattrs: XattrColumns
  readonly sparse: SparseColumns
  /** The index as bytes (format.ts), of which all of these are views. */
  readonly encoded: Buffer<ArrayBuffer>
}

/** The first row of a sorted owner column that is not below `entry`. */
export function lowerBound(owner: Uint32Array, entry: number): number {
  let low = 0
  let high = owner.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (owner[middle]! < entry) low = middle + 1
    else high = middle
  }
  return low
}

/**
 * Device numbers as the kernel holds them (include/linux/kdev_t.h): 12 bits of major, 20 of minor.
 */
export const MAX_MAJOR = 0xfff
export const MAX_MINOR = 0xfffff
