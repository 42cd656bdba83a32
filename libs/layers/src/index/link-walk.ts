import { StrataError } from '@strata/base'
import { KIND } from '../kind.js'
import type { InodeStore } from './inode-store.js'
import { isDots } from './layer-path.js'
import { NONE, type PlaceTable } from './place-table.js'

/** Symbolic links that one path may lead through, as on Linux (path_resolution(7)). */
const MAX_LINKS = 40
/**
 * Bytes of link targets, and of the paths of folders behind links, that may be read at once, and so
 * many more with each entry of a layer. What is not used is saved up to FREE_BYTES, so that no
 * piece of a tar costs more. One path can lead through 160 KB of targets; those of real layers have
 * some ten bytes.
 */
const FREE_BYTES = 1024 * 1024
const BYTES_PER_ENTRY = 256
const SLASH = 0x2f

/**
 * Follows symbolic links in the tree of one layer while its tar is read. The tree in memory is all
 * there is: an absolute target begins at the layer's root, `..` of the root is the root, and what
 * the layers below have is not seen. So no link leads out of the layer.
 */
export class LinkWalk {
  #left = FREE_BYTES
  #passed = 0

  constructor(
    private readonly places: PlaceTable,
    private readonly inodes: InodeStore,
  ) {}

  /** To be called for each entry of the tar. */
  grant(): void {
    this.#left = Math.min(this.#left + BYTES_PER_ENTRY, FREE_BYTES)
  }

  /** To be called for each path, before its links are followed. */
  begin(): void {
    this.#passed = 0
  }

  /**
   * The folder that the link at `place`, in `folder`, leads to; NONE if there is none in the layer,
   * or behind more than 40 links of one path. Errors: `limit_exceeded`.
   */
  follow(folder: number, place: number): number {
    if (++this.#passed > MAX_LINKS) return NONE
    const text = this.inodes.text(this.places.inode[place]!)
    this.#spend(text.length)
    let at = text[0] === SLASH ? 0 : folder
    for (let start = 0; start < text.length && at !== NONE;) {
      let end = text.indexOf(SLASH, start)
      if (end < 0) end = text.length
      at = this.#step(at, text, start, end)
      start = end + 1
    }
    return at
  }

  /** Why `follow` gave NONE. */
  get failure(): string {
    return this.#passed > MAX_LINKS ? `leads through more than ${MAX_LINKS} links` : 'leads to no folder of its layer'
  }

  /** How many folders a path to `folder` goes through, with itself, and its bytes and slashes. */
  measure(folder: number): { depth: number; bytes: number } {
    let [depth, bytes] = [0, 0]
    for (let at = folder; at !== 0; at = this.#above(at)) {
      const place = this.places.folderPlace[at]!
      bytes += this.places.nameEnd(place) - this.places.nameStart[place]! + 1
      depth++
    }
    this.#spend(bytes)
    return { depth, bytes }
  }

  /** The names of the folders from the root down to `folder`; views. */
  pathOf(folder: number): Buffer[] {
    const names: Buffer[] = []
    for (let at = folder; at !== 0; at = this.#above(at)) {
      const place = this.places.folderPlace[at]!
      names.push(this.places.names.bytes.subarray(this.places.nameStart[place], this.places.nameEnd(place)))
    }
    return names.reverse()
  }

  #step(folder: number, text: Uint8Array, start: number, end: number): number {
    if (start === end || isDots(text, start, end, 1)) return folder
    if (isDots(text, start, end, 2)) return this.#above(folder)
    const { places, inodes } = this
    const place = places.find(folder, text, start, end)
    if (place === NONE) return NONE
    const inode = places.inode[place]!
    if (inode !== NONE && inodes.kind[inode] === KIND.symlink) return this.follow(folder, place)
    return places.folder[place]!
  }

  /** Of the root: the root. */
  #above(folder: number): number {
    return folder === 0 ? 0 : this.places.folderAbove[this.places.folderPlace[folder]!]!
  }

  #spend(bytes: number): void {
    this.#left -= bytes
    if (this.#left < 0)
      throw new StrataError(
        'limit_exceeded',
        `a layer whose names lead through symbolic links of more than ${FREE_BYTES} bytes, and of ${BYTES_PER_ENTRY} more with each entry, is refused`,
      )
  }
}
