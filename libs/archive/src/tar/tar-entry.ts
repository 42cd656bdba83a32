/** What a tar entry is. Small numbers, so that an index keeps them in a typed array. */
export const ENTRY = { file: 0, hardlink: 1, symlink: 2, char: 3, block: 4, directory: 5, fifo: 6 } as const
export type EntryType = (typeof ENTRY)[keyof typeof ENTRY]

/**
 * A piece of a sparse file: `size` bytes that stand at `dataOffset` in the tar and at `offset` in
 * the file. What no piece covers is zeros.
 */
export interface SparsePiece {
  readonly offset: number
  readonly size: number
  readonly dataOffset: number
}

export type Xattr = readonly [name: Buffer, value: Buffer]

export const NO_BYTES = Buffer.alloc(0)
export const NO_XATTRS: readonly Xattr[] = []
/**
 * Extended attributes of one entry. No file system keeps so many on a file, and EROFS shares at
 * most so many between inodes.
 */
export const MAX_XATTRS = 255

/**
 * One entry with every extension applied. The reader has a single one and fills it anew each time:
 * all byte fields, xattrs included, are views that hold only during `TarSink.entry`; whoever keeps
 * one copies it. Names are bytes as they stand in the tar: not normalised, not trusted.
 */
export class TarEntry {
  path: Buffer = NO_BYTES
  link: Buffer = NO_BYTES
  type: EntryType = ENTRY.file
  /** The 12 permission bits. */
  mode = 0
  uid = 0
  gid = 0
  /**
   * Bytes of the file as it is read: of a sparse one with its holes. 0 for all that is not a file.
   */
  size = 0
  /**
   * Bytes that stand in the tar, from `dataOffset` on, without padding. Equals `size` but for
   * sparse files.
   */
  storedSize = 0
  /** Where the data begins, in bytes from the start of this tar; always a multiple of 512. */
  dataOffset = 0
  /** Whole seconds since the epoch, may be negative; the time is `mtime + mtimeNanos / 1e9`. */
  mtime = 0
  mtimeNanos = 0
  devMajor = 0
  devMinor = 0
  /**
   * The extended attributes of the global header above. All entries below that header have the same
   * array, so a sink can recognise it and read it once.
   */
  globalXattrs: readonly Xattr[] = NO_XATTRS
  /** Those of the entry's own header. They replace global ones of the same name. */
  ownXattrs: readonly Xattr[] = NO_XATTRS
  sparse: readonly SparsePiece[] | undefined = undefined

  /**
   * All extended attributes, each name once. This reads the global ones again for each entry: 255
   * of them behind a header of a few bytes. A sink for hostile tars uses the two fields above.
   */
  get xattrs(): Xattr[] {
    const byName = [...this.globalXattrs, ...this.ownXattrs].map(
      (xattr) => [xattr[0].toString('latin1'), xattr] as const,
    )
    return [...new Map(byName).values()]
  }
}

/**
 * Who is told. For each entry: `entry`, then `data` for each piece of its stored bytes if `entry`
 * said so, then `entryEnd`.
 */
export interface TarSink {
  /** True if the entry's stored bytes are wanted. */
  entry(entry: TarEntry): boolean
  /** A view into the chunk being written; valid during the call. */
  data(view: Buffer): void
  entryEnd(): void
}

export interface TarLimits {
  /** Entries in one tar. */
  readonly entries: number
  /** Bytes of a name or of a link's target. */
  readonly path: number
  /** Components of a name. */
  readonly depth: number
}

export const TAR_LIMITS: TarLimits = { entries: 10_000_000, path: 4096, depth: 1024 }
