import { eachDirent, PARENT, SELF } from './directory.js'
import {
  BLOCK,
  BLOCK_BITS,
  blocksOf,
  DEVICE_SLOT,
  DIRENT,
  DIRENT_TYPE,
  FEATURE_DEVICES,
  INODE,
  LAYOUT,
  MAGIC,
  NID_UNIT,
  S_IFMT,
  SUPERBLOCK,
  SUPERBLOCK_SIZE,
  TYPE,
} from './format.js'
import { layOut, type Layout } from './layout.js'
import { Output } from './output.js'
import { ErofsError, type ErofsSource } from './source.js'
import { countField } from './xattrs.js'

/** What was written. */
export interface ErofsImage {
  /** Bytes of metadata, a multiple of 512. */
  readonly bytes: number
}

/**
 * One EROFS image of metadata whose files' data lie on other devices, in the form of one flat
 * address space: the metadata's blocks first, then each device's, and every file a plain run of
 * blocks in it. The same source gives the same bytes.
 *
 * Mounted with `device=` once for each of the source's devices, in their order (kernel 5.16 and
 * later, 6.4 for its blocks of 512 bytes). Chunks come in order; `write` must be done with one when
 * it returns, for the buffer is filled again. Errors: `ErofsError`, before the first chunk for all
 * that concerns sizes and bounds of the whole.
 */
export function writeErofs(source: ErofsSource, write: (chunk: Buffer) => void): ErofsImage {
  const layout = layOut(source)
  const out = new Output(write)
  writeHead(source, layout, out)
  const contents = new Contents(source, layout)
  for (let inode = 0; inode < source.inodeCount; inode++) {
    out.padTo(layout.nid[inode]! * NID_UNIT)
    writeInode(source, layout, inode, out)
    if (layout.tail[inode]! > 0) contents.writeTail(inode, out)
  }
  out.padTo(blocksOf(layout.inodesEnd) * BLOCK)
  for (let inode = 0; inode < source.inodeCount; inode++) {
    if (layout.size[inode]! > layout.tail[inode]!) contents.writeBlocks(inode, out)
  }
  out.padTo((layout.xattrBlock || layout.metadataBlocks) * BLOCK)
  for (const bytes of layout.xattrs.area()) out.put(bytes)
  out.padTo(layout.metadataBlocks * BLOCK)
  out.flush()
  return { bytes: out.position }
}

function writeHead(source: ErofsSource, layout: Layout, out: Output): void {
  out.padTo(SUPERBLOCK)
  const at = out.take(SUPERBLOCK_SIZE)
  const { bytes, view } = out
  view.setUint32(at, MAGIC, true)
  view.setUint8(at + 12, BLOCK_BITS)
  view.setUint16(at + 14, layout.nid[0]!, true)
  view.setBigUint64(at + 16, BigInt(source.inodeCount), true)
  view.setUint32(at + 36, layout.metadataBlocks, true)
  view.setUint32(at + 44, layout.xattrBlock, true)
  bytes.set(source.uuid.subarray(0, 16), at + 48)
  view.setUint32(at + 80, FEATURE_DEVICES, true)
  view.setUint16(at + 86, source.devices.length, true)
  view.setUint16(at + 88, (SUPERBLOCK + SUPERBLOCK_SIZE) / DEVICE_SLOT, true)
  source.devices.forEach((device, number) => {
    const slot = out.take(DEVICE_SLOT)
    bytes.write((device.tag ?? '').slice(0, 64), slot, 64, 'latin1')
    view.setUint32(slot + 64, device.blocks, true)
    view.setUint32(slot + 68, layout.deviceBlock[number]!, true)
  })
}

function writeInode(source: ErofsSource, layout: Layout, inode: number, out: Output): void {
  const mode = source.mode(inode)
  const type = mode & S_IFMT
  if (DIRENT_TYPE[type] === undefined) throw new ErofsError('EINVAL', `inode ${inode} is of no type that EROFS knows`)
  const encoded = source.xattrs(inode).length === 0 ? undefined : layout.xattrs.bytesOf(inode)
  const at = out.take(INODE)
  const { view } = out
  view.setUint16(at, 1 | ((layout.tail[inode]! > 0 ? LAYOUT.inline : LAYOUT.plain) << 1), true)
  view.setUint16(at + 2, countField(encoded?.length ?? 0), true)
  view.setUint16(at + 4, mode, true)
  setInt64(view, at + 8, type === TYPE.file ? source.size(inode) : layout.size[inode]!)
  view.setUint32(at + 16, addressField(source, layout, inode, type), true)
  view.setUint32(at + 20, inode + 1, true)
  view.setUint32(at + 24, source.uid(inode), true)
  view.setUint32(at + 28, source.gid(inode), true)
  // A time before 1970 is its two's complement: the kernel takes the field as signed.
  setInt64(view, at + 32, source.mtime(inode))
  view.setUint32(at + 40, source.mtimeNanos(inode), true)
  view.setUint32(at + 44, type === TYPE.directory ? 2 + layout.subdirectories[inode]! : source.links(inode), true)
  if (encoded) out.put(encoded)
}

/** The inode's field that is a block address or a device number. */
function addressField(source: ErofsSource, layout: Layout, inode: number, type: number): number {
  switch (type) {
    case TYPE.directory:
    case TYPE.symlink:
      return layout.size[inode]! > layout.tail[inode]! ? layout.block[inode]! : 0
    case TYPE.char:
    case TYPE.block: {
      const [major, minor] = [source.major(inode), source.minor(inode)]
      if (major > 0xfff || minor > 0xfffff)
        throw new ErofsError('EINVAL', `the device number ${major}:${minor} has more than 12 and 20 bits`)
      // new_encode_dev of include/linux/kdev_t.h.
      return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0
    }
    case TYPE.file:
      return dataBlock(source, layout, inode)
    default:
      return 0
  }
}

function dataBlock(source: ErofsSource, layout: Layout, inode: number): number {
  const size = source.size(inode)
  if (size === 0) return 0
  const device = source.device(inode)
  const offset = source.offset(inode)
  const slot = source.devices[device]
  if (!slot || offset % BLOCK !== 0 || offset < 0 || offset / BLOCK + blocksOf(size) > slot.blocks) {
    throw new ErofsError(
      'EINVAL',
      `the data of inode ${inode}, ${size} bytes at ${offset}, are not whole blocks of device ${device}`,
    )
  }
  return layout.deviceBlock[device]! + offset / BLOCK
}

/**
 * Safe integers, negative ones as two's complement. Without BigInt, which would make an object for
 * each.
 */
function setInt64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value, true)
  view.setInt32(at + 4, Math.floor(value / 0x1_0000_0000), true)
}

/** Contents of directories and symbolic links: whole blocks in one place, the tail in another. */
class Contents {
  readonly #name = new Uint8Array(256)
  readonly #block = Buffer.alloc(BLOCK)
  readonly #view = new DataView(this.#block.buffer, this.#block.byteOffset, BLOCK)
  /**
   * Of the block being filled: where its entries and its names have come to. Names are laid from
   * the front of a buffer of their own, for the number of entries decides where they begin.
   */
  readonly #names = Buffer.alloc(BLOCK)
  #entries = 0
  #namesEnd = 0

  constructor(
    readonly source: ErofsSource,
    readonly layout: Layout,
  ) {}

  writeTail(inode: number, out: Output): void {
    this.#write(inode, (block, length, isLast) => {
      if (isLast) out.put(block.subarray(0, length))
    })
  }

  writeBlocks(inode: number, out: Output): void {
    const hasTail = this.layout.tail[inode]! > 0
    this.#write(inode, (block, _length, isLast) => {
      if (!isLast || !hasTail) out.put(block)
    })
  }

  #write(inode: number, emit: (block: Buffer, length: number, isLast: boolean) => void): void {
    if ((this.source.mode(inode) & S_IFMT) === TYPE.directory) return this.#directory(inode, emit)
    const target = this.source.symlink(inode)
    for (let from = 0; from < target.length; from += BLOCK) {
      const part = target.subarray(from, from + BLOCK)
      this.#block.fill(0)
      this.#block.set(part)
      emit(this.#block, part.length, from + part.length === target.length)
    }
  }

  #directory(inode: number, emit: (block: Buffer, length: number, isLast: boolean) => void): void {
    const { source, layout } = this
    eachDirent(source, inode, this.#name, (dirent, length) => {
      if (this.#entries * DIRENT + this.#namesEnd + DIRENT + length > BLOCK) this.#emitBlock(emit, false)
      const at = this.#entries * DIRENT
      const child = dirent === SELF ? inode : dirent === PARENT ? source.parent(inode) : source.direntInode(dirent)
      this.#view.setUint32(at, layout.nid[child]!, true)
      this.#view.setUint32(at + 4, 0, true)
      // The name's place within the names; where those begin is added when the block is full.
      this.#view.setUint16(at + 8, this.#namesEnd, true)
      this.#view.setUint16(at + 10, DIRENT_TYPE[source.mode(child) & S_IFMT]!, true)
      if (dirent >= 0) source.copyName(dirent, this.#names, this.#namesEnd)
      else this.#names.fill(0x2e, this.#namesEnd, this.#namesEnd + length)
      this.#entries++
      this.#namesEnd += length
    })
    this.#emitBlock(emit, true)
  }

  #emitBlock(emit: (block: Buffer, length: number, isLast: boolean) => void, isLast: boolean): void {
    const block = this.#block
    const start = this.#entries * DIRENT
    for (let at = 8; at < start; at += DIRENT) this.#view.setUint16(at, this.#view.getUint16(at, true) + start, true)
    const end = start + this.#namesEnd
    block.set(this.#names.subarray(0, this.#namesEnd), start)
    block.fill(0, end)
    emit(block, end, isLast)
    this.#entries = 0
    this.#namesEnd = 0
  }
}
