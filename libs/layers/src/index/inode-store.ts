import type { TarEntry } from '@strata/archive'
import { grown } from './bytes.js'
import { FLAG, KIND, type Kind } from '../kind.js'
import { ByteArena } from './place-table.js'
import { fileTime } from './file-time.js'
import { ownerId } from './owner-id.js'
import type { XattrHolder } from './xattr-rules.js'
import { NO_SET, XattrStore } from './xattr-store.js'

const HOLDERS: Partial<Record<Kind, XattrHolder>> = {
  [KIND.file]: 'file',
  [KIND.directory]: 'directory',
  [KIND.symlink]: 'symlink',
}

/**
 * What the entries of a tar are, apart from their names, while the tar is read: one inode for each
 * entry, and for each directory made up.
 */
export class InodeStore {
  count = 0
  kind = new Uint8Array(1024)
  flags = new Uint8Array(1024)
  mode = new Uint16Array(1024)
  uid = new Uint32Array(1024)
  gid = new Uint32Array(1024)
  nanos = new Uint32Array(1024)
  textStart = new Uint32Array(1024)
  mtime = new Float64Array(1024)
  size = new Float64Array(1024)
  value = new Float64Array(1024)
  readonly texts = new ByteArena()
  readonly xattrs = new XattrStore()
  /** Few inodes have either, so they are no columns. The first gives a set of `xattrs`. */
  readonly xattrSet = new Map<number, number>()
  readonly sparse = new Map<number, Float64Array>()
  /**
   * Bytes of all inodes' extended attributes, as if none were shared: a file system that does not
   * share them, and an exported tar, hold as many.
   */
  xattrBytes = 0
  sparseRanges = 0

  add(kind: Kind): number {
    const inode = this.count++
    if (inode === this.kind.length) this.#grow()
    this.kind[inode] = kind
    this.textStart[inode] = this.texts.end
    return inode
  }

  /**
   * A directory that only its contents tell of: docker's and containerd's own choice of attributes.
   */
  addImplied(kind: Kind): number {
    const inode = this.add(kind)
    this.flags[inode] = FLAG.implied
    this.mode[inode] = 0o755
    return inode
  }

  setAttributes(inode: number, entry: Pick<TarEntry, 'mode' | 'uid' | 'gid' | 'mtime' | 'mtimeNanos'>): void {
    this.mode[inode] = entry.mode & 0o7777
    this.uid[inode] = ownerId(entry.uid)
    this.gid[inode] = ownerId(entry.gid)
    const { mtime, mtimeNanos } = fileTime(entry.mtime, entry.mtimeNanos)
    this.mtime[inode] = mtime
    this.nanos[inode] = mtimeNanos
  }

  /**
   * Of the inode that was added last: texts lie one behind the other, in the order of their inodes.
   */
  setLastText(bytes: Uint8Array): void {
    this.texts.append(bytes)
  }

  textEnd(inode: number): number {
    return inode + 1 < this.count ? this.textStart[inode + 1]! : this.texts.end
  }

  text(inode: number): Buffer {
    return this.texts.bytes.subarray(this.textStart[inode], this.textEnd(inode))
  }

  setXattrs(inode: number, entry: TarEntry): void {
    const set = this.xattrs.setOf(entry, HOLDERS[this.kind[inode] as Kind] ?? 'other')
    if (set === NO_SET) return
    this.flags[inode]! |= FLAG.xattrs
    this.xattrSet.set(inode, set)
    this.xattrBytes += this.xattrs.sizeOf(set)
  }

  /**
   * Pieces as (offset, size, data) triples. One of no bytes, which GNU tar writes to mark a hole at
   * the end, says nothing.
   */
  setSparse(inode: number, all: NonNullable<TarEntry['sparse']>): void {
    this.flags[inode]! |= FLAG.sparse
    const pieces = all.filter(({ size }) => size > 0)
    const triples = new Float64Array(pieces.length * 3)
    pieces.forEach((piece, index) => triples.set([piece.offset, piece.size, piece.dataOffset], index * 3))
    this.sparse.set(inode, triples)
    this.sparseRanges += pieces.length
  }

  #grow(): void {
    const size = this.kind.length * 2
    this.kind = grown(this.kind, size)
    this.flags = grown(this.flags, size)
    this.mode = grown(this.mode, size)
    this.uid = grown(this.uid, size)
    this.gid = grown(this.gid, size)
    this.nanos = grown(this.nanos, size)
    this.textStart = grown(this.textStart, size)
    this.mtime = grown(this.mtime, size)
    this.size = grown(this.size, size)
    this.value = grown(this.value, size)
  }
}
