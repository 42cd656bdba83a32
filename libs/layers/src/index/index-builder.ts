import { StrataError } from '@strata/base'
import { buildMemory, ENTRY, PACKED_LIMITS, type TarEntry, type TarSink } from '@strata/archive'
import { arrange } from './arrange.js'
import { MAX_MAJOR, MAX_MINOR } from './columns.js'
import { ROW } from './format.js'
import type { GrowingMemory } from './index-memory.js'
import { InodeStore } from './inode-store.js'
import { FLAG, KIND, type Kind } from '../kind.js'
import { joinPath, type LayerIndex } from './layer-index.js'
import { isOwner } from './owner-id.js'
import { invalid, MAX_DEPTH, MAX_PATH, meaningOf, quoted, splitPath, WHITEOUT_PREFIX } from './layer-path.js'
import { LinkWalk } from './link-walk.js'
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
 * mean where tars leave it open: what docker, podman, containerd and umoci agree on.
 *
 * - Names are cleaned by their text (`splitPath`). Then an entry below a symbolic link of this
 *   layer lies where the link leads, as things stand when the entry comes (`LinkWalk`). A link that
 *   leads to no folder of this layer is refused with the entry: the engines fail there, or differ.
 *   The last component is never followed: an entry of a link's own name replaces the link.
 * - The root is root's, with mode 0755 and no extended attributes, whatever its entry says: of the
 *   engines only umoci sets them. Its time counts.
 * - A character device 0:0 is a whiteout of its name, as overlayfs has it, until another entry of
 *   this layer takes the name.
 * - Of several entries of one name the last counts. A directory over a directory replaces its
 *   attributes and keeps its children; anything else over a directory takes that away with all this
 *   layer put below it.
 * - A hard link names what its target is *when the link comes*, as extraction would have it: links
 *   above the target are followed, the target itself is not. If that is nothing yet, what this layer
 *   has there in the end; if that is nothing either, what the layers below have there (found when
 *   layers are merged).
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
  readonly #links = new LinkWalk(this.#places, this.#inodes)
  /**
   * The bytes before the last slash of the path seen last, and its folder: most entries stand in
   * the folder of the one before.
   */
  #lastAbove = Buffer.alloc(0)
  #lastFolder = 0
  /**
   * Bytes of that folder's own path, if a link led to it; else 0: the entry's path is the longer.
   */
  #lastLength = 0
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
    this.#links.grant()
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
    if (this.#lastLength + end - start >= MAX_PATH) throw tooDeep(entry.path)
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
    this.#checkTime(entry)
    const { mtime, mtimeNanos } = entry
    const root = this.#inodes.add(KIND.directory)
    this.#inodes.setAttributes(root, { mode: 0o755, uid: 0, gid: 0, mtime, mtimeNanos })
    this.#places.inode[0] = root
  }

  /**
   * The folder an entry stands in, made up where it is missing; SKIPPED for what lies in aufs's own
   * folders.
   */
  #folderOf(path: Buffer): number {
    const parts = this.#parts
    const above = parts[parts.length - 2]!
    if (this.#isLastAbove(path, above)) return this.#lastFolder
    this.#links.begin()
    let folder = 0
    let passedLinks = false
    for (let part = 0; part < parts.length - 2 && folder !== SKIPPED; part += 2) {
      const end = parts[part + 1]!
      const place = this.#placeAbove(path, folder, parts[part]!, end)
      if (place === SKIPPED) folder = SKIPPED
      else if (this.#places.folder[place] !== NONE) folder = this.#places.folder[place]!
      else {
        folder = this.#links.follow(folder, place)
        if (folder === NONE) throw this.#below(quoted(path), path.subarray(0, end))
        passedLinks = true
      }
    }
    this.#lastLength = passedLinks && folder !== SKIPPED ? this.#lengthOf(folder, path) : 0
    this.#lastAbove = Buffer.from(path.subarray(0, above))
    this.#lastFolder = folder
    return folder
  }

  /**
   * Bytes of a folder's own path with a slash behind it. Behind links a path is longer and deeper
   * than the entry's text, and links to folders behind links would have it grow without end.
   */
  #lengthOf(folder: number, path: Buffer): number {
    const { depth, bytes } = this.#links.measure(folder)
    if (depth >= MAX_DEPTH) throw tooDeep(path)
    return bytes
  }

  #isLastAbove(path: Buffer, length: number): boolean {
    const last = this.#lastAbove
    if (last.length !== length) return false
    for (let index = length - 1; index >= 0; index--) if (last[index] !== path[index]) return false
    return true
  }

  /**
   * The place of a folder or link that the path goes through. If nothing is there, it is made a
   * folder.
   */
  #placeAbove(path: Buffer, folder: number, start: number, end: number): number {
    const meaning = meaningOf(path, start, end)
    if (meaning === 'metadata') return SKIPPED
    // Nothing can lie below a mark; to take it for a plain name would let a layer bring files that
    // no other tool can name.
    if (meaning !== 'name') throw invalid(`${quoted(path)} lies below a whiteout`)
    const places = this.#places
    const place = places.findOrAdd(folder, path, start, end)
    const inode = places.inode[place]!
    if (inode !== NONE) {
      const { kind } = this.#inodes
      if (kind[inode] !== KIND.directory && kind[inode] !== KIND.symlink)
        throw invalid(`${quoted(path)} lies below a non-directory of the same layer, ${quoted(path.subarray(0, end))}`)
      return place
    }
    if (++this.#implied > IMPLIED_FOLDERS + IMPLIED_PER_ENTRY * this.#entries) {
      throw new StrataError(
        'limit_exceeded',
        `a layer whose names imply ${this.#implied} folders, and which has ${this.#entries} entries, is refused: ${quoted(path)}`,
      )
    }
    places.inode[place] = this.#inodes.addImplied(KIND.directory)
    places.openFolder(place)
    return place
  }

  #put(entry: TarEntry, place: number): void {
    const places = this.#places
    const inode =
      entry.type === ENTRY.hardlink
        ? this.#hardLink(entry, place)
        : entry.type === ENTRY.directory
          ? this.#directory(entry)
          : this.#leaf(entry)
    const isKept = entry.type === ENTRY.directory && places.folder[place] !== NONE
    // The folder remembered may be one of those that just went, or may have been reached through
    // what stood here.
    if (places.inode[place] !== NONE && !isKept) this.#forgetFolder()
    places.inode[place] = inode
    if (entry.type === ENTRY.directory) {
      if (!isKept) places.openFolder(place)
    } else if (places.folder[place] !== NONE) {
      places.folder[place] = NONE
      places.flags[place]! &= ~FLAG.opaque
    }
  }

  #forgetFolder(): void {
    this.#lastAbove = Buffer.alloc(0)
    this.#lastFolder = 0
    this.#lastLength = 0
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
    if (!isOwner(entry.uid) || !isOwner(entry.gid))
      throw invalid(`${quoted(entry.path)} has an owner that is no whole number`)
    this.#checkTime(entry)
    this.#inodes.setAttributes(inode, entry)
    this.#inodes.setXattrs(inode, entry)
  }

  #checkTime(entry: TarEntry): void {
    if (
      !Number.isSafeInteger(entry.mtime) ||
      !Number.isInteger(entry.mtimeNanos) ||
      entry.mtimeNanos < 0 ||
      entry.mtimeNanos > 999_999_999
    )
      throw invalid(`${quoted(entry.path)} has an impossible time`)
  }

  #hardLink(entry: TarEntry, place: number): number {
    const parts = this.#linkParts
    splitPath(entry.link, 'the target of a hard link', parts)
    const { place: target, folder, missing } = this.#findTarget(entry)
    if (target === place) throw invalid(`${quoted(entry.path)} is a hard link to itself`)
    const inode = target === NONE ? NONE : this.#places.inode[target]!
    if (inode !== NONE) {
      if (this.#inodes.kind[inode] === KIND.directory)
        throw invalid(`the hard link ${quoted(entry.path)} names ${quoted(entry.link)}, which is a directory`)
      return inode
    }
    const path = this.#links.pathOf(folder)
    for (let part = missing; part < parts.length; part += 2)
      path.push(entry.link.subarray(parts[part], parts[part + 1]))
    const text = joinPath(path)
    if (text.length >= MAX_PATH) throw tooDeep(entry.link)
    const pending = this.#inodes.add(KIND.lowerLink)
    this.#inodes.setLastText(text)
    return pending
  }

  /**
   * The place of the link's target as things stand, or NONE: then the last folder above it that is
   * there, and the first part of the target's path that is not in it. Symbolic links above the
   * target are followed, the target itself is not, as link(2) does it.
   */
  #findTarget(entry: TarEntry): { place: number; folder: number; missing: number } {
    const parts = this.#linkParts
    const places = this.#places
    this.#links.begin()
    let folder = 0
    let place = parts.length === 0 ? 0 : NONE
    let missing = parts.length
    for (let part = 0; part < parts.length; part += 2) {
      const start = parts[part]!
      const end = parts[part + 1]!
      if (meaningOf(entry.link, start, end) !== 'name')
        throw invalid(
          `the hard link ${quoted(entry.path)} names ${quoted(entry.link)}, a name that no file of a layer can have`,
        )
      if (missing < parts.length) continue
      place = places.find(folder, entry.link, start, end)
      if (part + 2 === parts.length) missing = part
      else if (place !== NONE && places.folder[place] !== NONE) folder = places.folder[place]!
      else if (place !== NONE && this.#inodes.kind[places.inode[place]!] === KIND.symlink) {
        folder = this.#links.follow(folder, place)
        if (folder === NONE)
          throw this.#below(
            `the target ${quoted(entry.link)} of the hard link ${quoted(entry.path)}`,
            entry.link.subarray(0, end),
          )
      } else [place, missing] = [NONE, part]
    }
    return { place, folder, missing }
  }

  #below(what: string, link: Uint8Array): StrataError {
    return invalid(`${what} lies below the symbolic link ${quoted(link)}, which ${this.#links.failure}`)
  }
}

function tooDeep(path: Uint8Array): StrataError {
  return invalid(
    `${quoted(path)} is more than ${MAX_DEPTH} folders or ${MAX_PATH - 1} bytes deep behind the symbolic links above it`,
  )
}

function deviceNumber(entry: TarEntry): number {
  const { devMajor, devMinor } = entry
  if (!(devMajor >= 0 && devMajor <= MAX_MAJOR && devMinor >= 0 && devMinor <= MAX_MINOR))
    throw invalid(`the device ${quoted(entry.path)} has the number ${devMajor}:${devMinor}, which Linux cannot hold`)
  return devMajor * 0x100000 + devMinor
}
