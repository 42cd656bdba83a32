import { randomInt } from 'node:crypto'
import { StrataError } from '@strata/base'
import { copyBytes, grown, release } from './bytes.js'

export const NONE = 0xffffffff

/** Bytes gathered one after the other, known by where they end. */
export class ByteArena {
  #bytes: Buffer<ArrayBuffer> = Buffer.allocUnsafeSlow(64 * 1024)
  end = 0

  get bytes(): Buffer<ArrayBuffer> {
    return this.#bytes
  }

  append(source: Uint8Array, start = 0, end = source.length): void {
    const length = end - start
    if (this.end + length > this.#bytes.length) this.#grow(length)
    copyBytes(this.#bytes, this.end, source, start, end)
    this.end += length
  }

  #grow(length: number): void {
    // Ends are kept in 32 bits.
    if (this.end + length > 0xffff_fffe)
      throw new StrataError('limit_exceeded', 'the names of a layer have more than 4 GiB')
    // By a quarter: both are in memory while it is copied, and what is not filled is memory too.
    this.#bytes = Buffer.from(
      this.#bytes.buffer.transfer(Math.max(Math.ceil(this.#bytes.length * 1.25), this.end + length)),
    )
  }
}

/**
 * The names of a layer while its tar is read: a place is a name in a folder, and holds what now
 * stands there.
 *
 * A place that is a directory has a folder number, and its children are keyed by that, not by the
 * place. So when a file replaces a directory, forgetting the number forgets all that was below in
 * one step, and a hostile tar that alternates the two gains nothing.
 */
export class PlaceTable {
  readonly names = new ByteArena()
  count = 0
  folders = 0
  /** By place. */
  folderAbove = new Uint32Array(1024)
  nameStart = new Uint32Array(1024)
  /** What stands here, or NONE (nothing, or only a whiteout). */
  inode = new Uint32Array(1024)
  /** The folder number if it is a directory, else NONE. */
  folder = new Uint32Array(1024)
  flags = new Uint8Array(1024)
  #hash = new Uint32Array(1024)
  /** By folder: the place it was made for. */
  folderPlace = new Uint32Array(1024)
  /** Open addressing; holds place + 1. */
  #slots = new Uint32Array(4096)
  /** Unknown to who writes the tar, so that names cannot be chosen to collide. */
  readonly #seed = randomInt(0xffffffff)

  constructor() {
    // The root: a place without a name, in a folder that does not exist.
    this.#add(NONE, 0, new Uint8Array(), 0, 0)
    this.openFolder(0)
  }

  /** Makes the place a directory with nothing in it. */
  openFolder(place: number): number {
    const folder = this.folders++
    if (folder === this.folderPlace.length) this.folderPlace = grown(this.folderPlace, folder * 2)
    this.folderPlace[folder] = place
    this.folder[place] = folder
    return folder
  }

  /** Names lie one behind the other, in the order of their places. */
  nameEnd(place: number): number {
    return place + 1 < this.count ? this.nameStart[place + 1]! : this.names.end
  }

  /** For when nothing is looked for any more. */
  endOfSearch(): void {
    release(this.#slots, this.#hash)
  }

  /** For when it is known in which folder everything is. */
  endOfFolders(): void {
    release(this.folderAbove, this.folder, this.folderPlace)
  }

  /** For when all has been read. */
  release(): void {
    release(this.names.bytes, this.nameStart, this.flags)
  }

  find(folder: number, bytes: Uint8Array, start: number, end: number): number {
    return this.#find(this.#hashOf(folder, bytes, start, end), folder, bytes, start, end)
  }

  #find(hash: number, folder: number, bytes: Uint8Array, start: number, end: number): number {
    const mask = this.#slots.length - 1
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const place = this.#slots[slot]! - 1
      if (place < 0) return NONE
      if (this.#hash[place] === hash && this.folderAbove[place] === folder && this.#isNamed(place, bytes, start, end))
        return place
    }
  }

  findOrAdd(folder: number, bytes: Uint8Array, start: number, end: number): number {
    const hash = this.#hashOf(folder, bytes, start, end)
    const found = this.#find(hash, folder, bytes, start, end)
    if (found !== NONE) return found
    if (this.count * 2 >= this.#slots.length) this.#rehash()
    const place = this.#add(folder, hash, bytes, start, end)
    this.#insert(place)
    return place
  }

  #insert(place: number): void {
    const mask = this.#slots.length - 1
    let slot = this.#hash[place]! & mask
    while (this.#slots[slot] !== 0) slot = (slot + 1) & mask
    this.#slots[slot] = place + 1
  }

  #rehash(): void {
    const size = this.#slots.length * 4
    release(this.#slots)
    this.#slots = new Uint32Array(size)
    for (let place = 1; place < this.count; place++) this.#insert(place)
  }

  #add(folder: number, hash: number, bytes: Uint8Array, start: number, end: number): number {
    const place = this.count++
    if (place === this.inode.length) this.#grow()
    this.folderAbove[place] = folder
    this.nameStart[place] = this.names.end
    this.names.append(bytes, start, end)
    this.inode[place] = NONE
    this.folder[place] = NONE
    this.#hash[place] = hash
    return place
  }

  #grow(): void {
    const size = this.inode.length * 2
    this.folderAbove = grown(this.folderAbove, size)
    this.nameStart = grown(this.nameStart, size)
    this.inode = grown(this.inode, size)
    this.folder = grown(this.folder, size)
    this.flags = grown(this.flags, size)
    this.#hash = grown(this.#hash, size)
  }

  #isNamed(place: number, bytes: Uint8Array, start: number, end: number): boolean {
    const own = this.nameStart[place]!
    if (this.nameEnd(place) - own !== end - start) return false
    const names = this.names.bytes
    for (let index = end - start - 1; index >= 0; index--) if (names[own + index] !== bytes[start + index]) return false
    return true
  }

  /**
   * FNV-1a over the name with the folder mixed in, and a last mix, since its low bits are what
   * picks a slot.
   */
  #hashOf(folder: number, bytes: Uint8Array, start: number, end: number): number {
    let hash = (this.#seed ^ Math.imul(folder, 0x9e3779b1)) | 0
    for (let index = start; index < end; index++) hash = Math.imul(hash ^ bytes[index]!, 0x01000193)
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b)
    return (hash ^ (hash >>> 13)) >>> 0
  }
}
