/**
 * A device that holds file data: a layer's tar, or any file or block device beside the metadata.
 */
export interface ErofsDevice {
  /** 512-byte blocks that may be addressed. A last block that is not whole does not count. */
  readonly blocks: number
  /** At most 64 bytes, kept in the device's slot; for people, the kernel does not use it. */
  readonly tag?: string
}

/**
 * The tree to be written, by number: inodes (0 is the root directory) and dirents. All methods are
 * called in hot loops and must answer from memory.
 *
 * Laws: every inode but the root is named by at least one dirent, a directory by exactly one; a
 * directory's dirents are numbered without a gap and strictly sorted by the bytes of their names;
 * `.` and `..` are not among them.
 */
export interface ErofsSource {
  readonly inodeCount: number
  readonly devices: readonly ErofsDevice[]
  /**
   * 16 bytes; the same tree over the same devices should have the same. All zeros makes overlayfs
   * complain in the kernel's log.
   */
  readonly uuid: Uint8Array

  /**
   * With the file type (S_IFMT, inode(7)): regular, directory, symbolic link, char, block, fifo,
   * socket.
   */
  mode(inode: number): number
  uid(inode: number): number
  gid(inode: number): number
  /** Seconds since 1970, negative before; and nanoseconds 0..999,999,999. */
  mtime(inode: number): number
  mtimeNanos(inode: number): number
  /** Names of a non-directory. Directories are counted by the writer. */
  links(inode: number): number
  /**
   * The numbers of an inode's extended attributes, in an order of the source's own that does not
   * change. Inodes that have one in common give the same number: then it is written once.
   */
  xattrs(inode: number): ArrayLike<number>
  /**
   * By number: the full name (`user.x`, `security.capability`, `system.posix_acl_access`, …) and
   * the value.
   */
  xattr(number: number): readonly [name: Uint8Array, value: Uint8Array]

  /** Regular files: bytes. */
  size(inode: number): number
  /**
   * Regular files that are not empty: place in `devices`, and the byte there, a multiple of 512.
   * The data are one run.
   */
  device(inode: number): number
  offset(inode: number): number

  /** Symbolic links: 1..4,095 bytes. */
  symlink(inode: number): Uint8Array

  /** Devices: up to 12 and 20 bits. */
  major(inode: number): number
  minor(inode: number): number

  /**
   * Directories: the inode of the one above (the root's is the root), and its dirents `firstDirent`
   * up to `firstDirent + direntCount`.
   */
  parent(inode: number): number
  firstDirent(inode: number): number
  direntCount(inode: number): number

  direntInode(dirent: number): number
  /** 1..255 bytes. */
  nameLength(dirent: number): number
  /** The name's bytes into `target` at `at`. */
  copyName(dirent: number, target: Uint8Array, at: number): void
}

/** What the writer refuses; `code` is the errno name that fits best. */
export class ErofsError extends Error {
  override readonly name = 'ErofsError'
  constructor(
    readonly code: 'EFBIG' | 'EINVAL' | 'ENAMETOOLONG' | 'E2BIG',
    message: string,
  ) {
    super(message)
  }
}
