import { StrataError } from '@strata/base'
import { buildMemory, ENTRY, PACKED_LIMITS, type TarEntry, type TarSink } from '@strata/archive'
import { arrange } from './arrange.js'
import { MAX_MAJOR, MAX_MINOR } from './columns.js'
import { ROW } from './format.js'
import type { GrowingMemory } from './index-memory.js'
import { InodeStore } from './inode-store.js'
import { FLAG, KIND, type Kind } from '../kind.js'
import { joinPath, type LayerIndex } from './layer-index.js'
import { invalid, meaningOf, quoted, splitPath, WHITEOUT_PREFIX } from './layer-path.js'
import { NONE, PlaceTable } from './place-table.js'

export interface IndexLimits {
  /** Entries of a layer, directories that it only implies among them. */
  readonly entries: number
  /**
   * Bytes of its index, counted while it is built: of each entry its row, its name, its link's
   * target, its extended attributes and its sparse map. What a later entry replaces counts too, and
   * so does each use of extended attributes that are kept once: roots of overlayfs and exported
   * tars have them once a file.
   */
  readonly indexBytes: number
}

/**
 * Folders that a layer's names may only imply: so many in any case, and so many more for each
 * entry. A name of two kilobytes implies a thousand of them, each an inode on a disk, and packs to
 * a few bytes; tars that leave folders out are flat.
 */
const IMPLIED_FOLDERS = 4_096
const IMPLIED_PER_ENTRY = 16

/** The folder of a path whose parts are aufs's own records. */
const SKIPPED = NONE

/**
 * A `TarReader`'s sink that gathers a layer's index in flight, and decides what the tar's entries
 * mean where tars leave it open.
 *
 * - Of several entries of one name the last counts. A directory over a directory replaces its
 *   attributes and keeps its children; anything else over a directory takes that away with all this
 *   layer put below it.
 * - A hard link names what its target is *when the link comes*, as extraction would have it; if
 *   that is nothing yet, what this layer has there in the end; if that is nothing either, what the
 *   layers below have there (found when layers are merged).
 * - Whiteouts touch the layers below only, wherever in their own layer they stand, so they are
 *   marks on a name beside what the layer puts there.
 *
 * Errors: `layer_invalid` (names the entry), `limit_exceeded`, `overloaded` if its memory has no
 * more room. After one, the builder is of no more use.
 */
export class IndexBuilder implements TarSink {
  readonly #places = new PlaceTable()
  readonly #inodes = new InodeStore()
  readonly #parts: number[] = []
  readonly #linkParts: number[] = []
  /**
   * The bytes before the last slash of the path seen last, and its folder: most entries stand in
   * the folder of the one before.
   */
  #lastAbove = Buffer.alloc(0)
  #lastFolder = 0
  #entries = 0
  #implied = 0

  readonly limits: IndexLimits

  /** @param memory for the index while it is built; without it as much as the limits say */
  constructor(
    limits: Partial<IndexLimits> = {},
    private readonly memory?: GrowingMemory,
  ) {
    this.limits = { entries: PACKED_LIMITS.entries, indexBytes: PACKED_LIMITS.indexBytes, ...limits }
    this.#places.inode[0] = this.#inodes.addImplied(KIND.directory)
  }

  /** Contents are never wanted: their place in the tar is enough. */
  entry(entry: TarEntry): boolean {
    if (this.#inodes.count > this.limits.entries)
      throw new StrataError('limit_exceeded', `a layer of more than ${this.limits.entries} entries is refused`)
    this.#entries++
    this.#take(entry)
    const bytes = this.#bytes()
    if (bytes > this.limits.indexBytes)
      throw new StrataError(
        'limit_exceeded',
        `a layer whose index has more than ${this.limits.indexBytes} bytes is refused: names, links, extended attributes and sparse maps of all its entries`,
      )
    if (this.memory?.reach(buildMemory(bytes)) === false)
      throw new StrataError('overloaded', 'the indexes that are being built take all of STRATA_INDEX_MEMORY')
    return false
  }

  #bytes(): number {
    const { names, count } = this.#places
    const inodes = this.#inodes
    return (
      Math.max(count, inodes.count) * ROW.entries +
      names.end +
      inodes.texts.end +
      inodes.xattrBytes +
      inodes.sparseRanges * ROW.sparse
    )
  }

  #take(entry: TarEntry): void {
    const parts = this.#parts
    splitPath(entry.path, 'the path', parts)
    if (parts.length === 0) {
      this.#root(entry)
      return
    }
    const folder = this.#folderOf(entry.path)
    if (folder === SKIPPED) return
    const start = parts[parts.length - 2]!
    const end = parts[parts.length - 1]!
    switch (meaningOf(entry.path, start, end)) {
      case 'name':
        this.#put(entry, this.#places.findOrAdd(folder, entry.path, start, end))
        break
      case 'whiteout':
        this.#places.flags[this.#places.findOrAdd(folder, entry.path, start + WHITEOUT_PREFIX, end)]! |= FLAG.whiteout
        break
      case 'opaque':
        this.#places.flags[this.#places.folderPlace[folder]!]! |= FLAG.opaque
        break
      case 'metadata':
        break
      case 'forbidden':
        throw invalid(`${quoted(entry.path)} is a whiteout of nothing`)
    }
  }

  data(): void {
    // Never asked for.
  }

  entryEnd(): void {
    // Nothing to close.
  }

  /**
   * `tarSize`: bytes of the whole uncompressed tar. What only the layers below can tell is left to
   * the merge. The builder is of no more use.
   */
  finish(tarSize: number): LayerIndex {
    return arrange(this.#places, this.#inodes, tarSize)
  }

  #root(entry: TarEntry): void {
    // An entry "." that is a symbolic link once replaced the root itself (CVE-2021-29136).
    if (entry.type !== ENTRY.directory)
      throw invalid(`the entry ${quoted(entry.path)} is the root, and not a directory`)
    this.#places.inode[0] = this.#directory(entry)
  }

  /**
   * The folder an entry stands in, made up where it is missing; SKIPPED for what lies in aufs's own
   * folders.
   */
  #folderOf(path: Buffer): number {
    const parts = this.#parts
    const above = parts[parts.length - 2]!
    if (this.#isLastAbove(path, above)) return this.#lastFolder
    let folder = 0
    for (let part = 0; part < parts.length - 2 && folder !== SKIPPED; part += 2)
      folder = this.#descend(path, folder, parts[part]!, parts[part + 1]!)
    this.#lastAbove = Buffer.from(path.subarray(0, above))
    this.#lastFolder = folder
    return folder
  }

  #isLastAbove(path: Buffer, length: number): boolean {
    const last = this.#lastAbove
    if (last.length !== length) return false
    for (let index = length - 1; index >= 0; index--) if (last[index] !== path[index]) return false
    return true
  }

  #descend(path: Buffer, folder: number, start: number, end: number): number {
    const meaning = meaningOf(path, start, end)
    if (meaning === 'metadata') return SKIPPED
    // Nothing can lie below a mark; to take it for a plain name would let a layer bring files that
    // no other tool can name.
    if (meaning !== 'name') throw invalid(`${quoted(path)} lies below a whiteout`)
    const places = this.#places
    const place = places.findOrAdd(folder, path, start, end)
    if (places.folder[place] !== NONE) return places.folder[place]!
    const inode = places.inode[place]!
    if (inode !== NONE) {
      // Engines differ here, from following the link inside the root to failing; a layer made from
      // a file system has no such entry.
      const what = this.#inodes.kind[inode] === KIND.symlink ? 'a symbolic link' : 'a non-directory'
      throw invalid(`${quoted(path)} lies below ${what} of the same layer, ${quoted(path.subarray(0, end))}`)
    }
    if (++this.#implied > IMPLIED_FOLDERS + IMPLIED_PER_ENTRY * this.#entries) {
      throw new StrataError(
        'limit_exceeded',
        `a layer whose names imply ${this.#implied} folders, and which has ${this.#entries} entries, is refused: ${quoted(path)}`,
      )
    }
    places.inode[place] = this.#inodes.addImplied(KIND.directory)
    return places.openFolder(place)
  }

  #put(entry: TarEntry, place: number): void {
    const places = this.#places
    const inode =
      entry.type === ENTRY.hardlink
        ? this.#hardLink(entry, place)
        : entry.type === ENTRY.directory
          ? this.#directory(entry)
          : this.#leaf(entry)
    places.inode[place] = inode
    if (entry.type === ENTRY.directory) {
      if (places.folder[place] === NONE) places.openFolder(place)
    } else if (places.folder[place] !== NONE) {
      places.folder[place] = NONE
      places.flags[place]! &= ~FLAG.opaque
      // The folder remembered may be one of those that just went.
      this.#lastAbove = Buffer.alloc(0)
      this.#lastFolder = 0
    }
  }

  #directory(entry: TarEntry): number {
    const inode = this.#inodes.add(KIND.directory)
    this.#setAttributes(inode, entry)
    return inode
  }

  #leaf(entry: TarEntry): number {
    const inodes = this.#inodes
    const inode = inodes.add(this.#kindOf(entry))
    this.#setAttributes(inode, entry)
    if (entry.type === ENTRY.file) {
      inodes.size[inode] = entry.size
      if (entry.sparse !== undefined) inodes.setSparse(inode, entry.sparse)
      else if (entry.size > 0) inodes.value[inode] = entry.dataOffset
    } else if (entry.type === ENTRY.symlink) {
      if (entry.link.length === 0 || entry.link.length > 4095 || entry.link.includes(0))
        throw invalid(`the symbolic link ${quoted(entry.path)} has a target that no link can have`)
      inodes.setLastText(entry.link)
    } else if (entry.type === ENTRY.char || entry.type === ENTRY.block) {
      inodes.value[inode] = deviceNumber(entry)
    }
    return inode
  }

  #kindOf(entry: TarEntry): Kind {
    switch (entry.type) {
      case ENTRY.file:
        return KIND.file
      case ENTRY.symlink:
        return KIND.symlink
      case ENTRY.char:
        return KIND.char
      case ENTRY.block:
        return KIND.block
      case ENTRY.fifo:
        return KIND.fifo
      default:
        throw invalid(`${quoted(entry.path)} is of an unknown type`)
    }
  }

  #setAttributes(inode: number, entry: TarEntry): void {
    if (!isUnsigned32(entry.uid) || !isUnsigned32(entry.gid))
      throw invalid(`${quoted(entry.path)} has an owner that is no number of 32 bits`)
    if (
      !Number.isSafeInteger(entry.mtime) ||
      !Number.isInteger(entry.mtimeNanos) ||
      entry.mtimeNanos < 0 ||
      entry.mtimeNanos > 999_999_999
    )
      throw invalid(`${quoted(entry.path)} has an impossible time`)
    this.#inodes.setAttributes(inode, entry)
    this.#inodes.setXattrs(inode, entry)
  }

  #hardLink(entry: TarEntry, place: number): number {
    const parts = this.#linkParts
    splitPath(entry.link, 'the target of a hard link', parts)
    const target = parts.length === 0 ? 0 : this.#findTarget(entry)
    if (target === place) throw invalid(`${quoted(entry.path)} is a hard link to itself`)
    const inode = target === NONE ? NONE : this.#places.inode[target]!
    if (inode !== NONE) {
      if (this.#inodes.kind[inode] === KIND.directory)
        throw invalid(`the hard link ${quoted(entry.path)} names ${quoted(entry.link)}, which is a directory`)
      return inode
    }
    const pending = this.#inodes.add(KIND.lowerLink)
    const clean: Buffer[] = []
    for (let part = 0; part < parts.length; part += 2) clean.push(entry.link.subarray(parts[part], parts[part + 1]))
    this.#inodes.setLastText(joinPath(clean))
    return pending
  }

  /**
   * The place of the link's target as things stand, or NONE. No symbolic link is followed: makers
   * of tars name files by their real paths.
   */
  #findTarget(entry: TarEntry): number {
    const parts = this.#linkParts
    let folder = 0
    let place = NONE
    for (let part = 0; part < parts.length; part += 2) {
      const start = parts[part]!
      const end = parts[part + 1]!
      if (meaningOf(entry.link, start, end) !== 'name')
        throw invalid(
          `the hard link ${quoted(entry.path)} names ${quoted(entry.link)}, a name that no file of a layer can have`,
        )
      place = folder === NONE ? NONE : this.#places.find(folder, entry.link, start, end)
      folder = place === NONE ? NONE : this.#places.folder[place]!
    }
    return place
  }
}

function deviceNumber(entry: TarEntry): number {
  const { devMajor, devMinor } = entry
  if (!(devMajor >= 0 && devMajor <= MAX_MAJOR && devMinor >= 0 && devMinor <= MAX_MINOR))
    throw invalid(`the device ${quoted(entry.path)} has the number ${devMajor}:${devMinor}, which Linux cannot hold`)
  // To overlayfs this is a whiteout: a client's tar says whiteouts by name.
  if (entry.type === ENTRY.char && devMajor === 0 && devMinor === 0)
    throw invalid(`${quoted(entry.path)} is the character device 0:0, which would hide what the layers below have`)
  return devMajor * 0x100000 + devMinor
}

function isUnsigned32(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 0xffffffff
}
