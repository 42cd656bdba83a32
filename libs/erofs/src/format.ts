/**
 * Facts of the on-disk format (Linux fs/erofs/erofs_fs.h, Documentation/filesystems/erofs.rst), as
 * far as the writer uses them.
 */
export const BLOCK_BITS = 9
/**
 * The smallest block the kernel takes (6.4 and later), and the unit of a tar: what makes tar data
 * addressable.
 */
export const BLOCK = 1 << BLOCK_BITS
export const SUPERBLOCK = 1024
export const SUPERBLOCK_SIZE = 128
export const DEVICE_SLOT = 128
export const MAGIC = 0xe0f5e1e2
/** feature_incompat: the device table. */
export const FEATURE_DEVICES = 0x8
/** An inode's number is its place in units of this. */
export const NID_UNIT = 32
/** The extended form, which holds 32-bit owners and a time. */
export const INODE = 64
export const DIRENT = 12
export const XATTR_HEADER = 12
export const XATTR_ENTRY = 4
/** An inode names a shared attribute by its place, in units of as many bytes. */
export const SHARED_ID = 4
/** The number of shared attributes of an inode is held in 8 bits. */
export const MAX_SHARED = 0xff
export const LAYOUT = { plain: 0, inline: 2 } as const
/** Block addresses are 32 bits, counted over the metadata and all devices. */
export const MAX_BLOCKS = 0xffffffff

export const S_IFMT = 0o170000
export const TYPE = {
  fifo: 0o010000,
  char: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
} as const

/** The type byte of a directory entry, by S_IFMT bits. */
export const DIRENT_TYPE: Readonly<Record<number, number>> = {
  [TYPE.file]: 1,
  [TYPE.directory]: 2,
  [TYPE.char]: 3,
  [TYPE.block]: 4,
  [TYPE.fifo]: 5,
  [TYPE.socket]: 6,
  [TYPE.symlink]: 7,
}

export function blocksOf(bytes: number): number {
  return Math.ceil(bytes / BLOCK)
}
