import { directorySize } from './directory.js'
import {
  BLOCK,
  blocksOf,
  DEVICE_SLOT,
  INODE,
  MAX_BLOCKS,
  NID_UNIT,
  S_IFMT,
  SUPERBLOCK,
  SUPERBLOCK_SIZE,
  TYPE,
} from './format.js'
import { ErofsError, type ErofsSource } from './source.js'
import { SharedXattrs } from './xattrs.js'

/**
 * The longest tail that goes behind its inode. A tail must not cross a block, and an inode may be
 * moved on by steps of 32 bytes until its tail does not: up to this length a place is always found.
 */
const MAX_TAIL = BLOCK - NID_UNIT

/**
 * Where everything lies, found before a byte is written: superblock and device table, then all
 * inodes in the source's order with their small contents behind them, then the blocks of larger
 * directories and long link targets, then the extended attributes that inodes share.
 */
export interface Layout {
  /**
   * By inode: its place in units of 32 bytes, counted from the first byte (meta_blkaddr is 0). A
   * number of 0 would vanish from directory listings; here it is the superblock's.
   */
  readonly nid: Uint32Array
  /** By inode: bytes of a directory or symbolic link. */
  readonly size: Uint32Array
  /** By inode: bytes of `size` that lie behind the inode. */
  readonly tail: Uint16Array
  /** By inode: first block of what does not. */
  readonly block: Uint32Array
  /** By inode: how many directories lie in a directory. */
  readonly subdirectories: Uint32Array
  readonly inodesEnd: number
  readonly xattrs: SharedXattrs
  /** The first block of the shared attributes; 0 if there are none. */
  readonly xattrBlock: number
  readonly metadataBlocks: number
  /** By device: its first block in the one address space of all. */
  readonly deviceBlock: readonly number[]
}

export function layOut(source: ErofsSource): Layout {
  const count = source.inodeCount
  const layout = {
    nid: new Uint32Array(count),
    size: new Uint32Array(count),
    tail: new Uint16Array(count),
    block: new Uint32Array(count),
    subdirectories: new Uint32Array(count),
  }
  const scratch = new Uint8Array(256)
  const xattrs = new SharedXattrs(source)
  if (source.devices.length > 0xffff)
    throw new ErofsError('EINVAL', `${source.devices.length} devices: EROFS has slots for 65,535`)
  if (count === 0 || (source.mode(0) & S_IFMT) !== TYPE.directory)
    throw new ErofsError('EINVAL', 'inode 0 is not a directory')
  let at = SUPERBLOCK + SUPERBLOCK_SIZE + source.devices.length * DEVICE_SLOT
  let blocks = 0
  for (let inode = 0; inode < count; inode++) {
    const type = source.mode(inode) & S_IFMT
    const size = contentSize(source, inode, type, scratch)
    const head = INODE + xattrs.sizeOf(inode)
    const rest = size % BLOCK
    const tail = rest <= MAX_TAIL ? rest : 0
    layout.size[inode] = size
    layout.tail[inode] = tail
    // The kernel reads a link's inline target only if all of it is inline.
    if (type === TYPE.symlink && size > tail) layout.tail[inode] = 0
    at = Math.ceil(at / NID_UNIT) * NID_UNIT
    while (((at + head) % BLOCK) + layout.tail[inode]! > BLOCK) at += NID_UNIT
    layout.nid[inode] = at / NID_UNIT
    // Relative to the end of the inodes, which is not known yet.
    layout.block[inode] = blocks
    blocks += blocksOf(size - layout.tail[inode]!)
    at += head + layout.tail[inode]!
    if (type === TYPE.directory && inode > 0) layout.subdirectories[source.parent(inode)]!++
    // The nids of a directory entry have room; block addresses do not.
    if (at / BLOCK + blocks > MAX_BLOCKS) throw tooLarge()
  }
  if (layout.nid[0]! > 0xffff) throw new ErofsError('EINVAL', 'the root does not lie where the superblock can name it')
  const firstBlock = blocksOf(at)
  for (let inode = 0; inode < count; inode++) layout.block[inode]! += firstBlock
  const xattrBlock = xattrs.size === 0 ? 0 : firstBlock + blocks
  const metadataBlocks = firstBlock + blocks + blocksOf(xattrs.size)
  return {
    ...layout,
    inodesEnd: at,
    xattrs,
    xattrBlock,
    metadataBlocks,
    deviceBlock: mapDevices(source, metadataBlocks),
  }
}

/** Contents that are part of the metadata: of directories and symbolic links. */
function contentSize(source: ErofsSource, inode: number, type: number, scratch: Uint8Array): number {
  if (type === TYPE.directory) return directorySize(source, inode, scratch)
  if (type !== TYPE.symlink) return 0
  const size = source.symlink(inode).length
  if (size < 1 || size > 4095) throw new ErofsError('EINVAL', `a symbolic link of ${size} bytes: Linux takes 1 to 4095`)
  return size
}

function mapDevices(source: ErofsSource, metadataBlocks: number): number[] {
  const first: number[] = []
  let next = metadataBlocks
  for (const device of source.devices) {
    if (!Number.isInteger(device.blocks) || device.blocks < 0)
      throw new ErofsError('EINVAL', 'a device has an impossible number of blocks')
    first.push(next)
    next += device.blocks
    if (next > MAX_BLOCKS) throw tooLarge()
  }
  return first
}

function tooLarge(): ErofsError {
  return new ErofsError(
    'EFBIG',
    'metadata and data together have more than 2 TiB, the end of 32-bit block addresses of 512 bytes',
  )
}
