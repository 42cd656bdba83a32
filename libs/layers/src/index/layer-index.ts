import type { IndexColumns } from './columns.js'
import { lowerBound } from './columns.js'
import { decodeColumns } from './format.js'
import { FLAG, type Kind, type SparseRange, type Xattr } from '../kind.js'
import { fileTime, type FileTime } from './file-time.js'
import { ownerId } from './owner-id.js'
import { validate } from './validate.js'

/**
 * What one layer's tar holds, by entry number (0 is the root; see columns.ts for the order).
 *
 * It is the whole of what merging, browsing and every storage driver need: the tar itself is read
 * for file contents only. Immutable.
 */
export class LayerIndex {
  readonly #columns: IndexColumns
  /**
   * `firstChild[i]` to `firstChild[i + 1]` are the children of i: they follow from the parents, so
   * they are not stored.
   */
  readonly #firstChild: Uint32Array

  constructor(columns: IndexColumns) {
    this.#columns = columns
    const parent = columns.entries.parent
    const first = new Uint32Array(parent.length + 1)
    let child = 1
    for (let entry = 0; entry < parent.length; entry++) {
      first[entry] = child
      while (child < parent.length && parent[child] === entry) child++
    }
    first[parent.length] = child
    this.#firstChild = first
  }

  /** The columns themselves, for loops too hot for a call a field. Not to be written to. */
  get columns(): IndexColumns {
    return this.#columns
  }

  get count(): number {
    return this.#columns.entries.kind.length
  }

  get tarSize(): number {
    return this.#columns.tarSize
  }

  kind(entry: number): Kind {
    return this.#columns.entries.kind[entry] as Kind
  }

  /** Bits of `FLAG`. */
  flags(entry: number): number {
    return this.#columns.entries.flags[entry]!
  }

  /** Permission bits, no type. */
  mode(entry: number): number {
    return this.#columns.entries.mode[entry]!
  }

  /** Also of an index that an older release wrote: see `ownerId`. */
  uid(entry: number): number {
    return ownerId(this.#columns.entries.uid[entry]!)
  }

  gid(entry: number): number {
    return ownerId(this.#columns.entries.gid[entry]!)
  }

  /** Also of an index that an older release wrote: see `fileTime`. */
  mtime(entry: number): number {
    return this.#time(entry).mtime
  }

  mtimeNanos(entry: number): number {
    return this.#time(entry).mtimeNanos
  }

  #time(entry: number): FileTime {
    const { mtime, nanos } = this.#columns.entries
    return fileTime(mtime[entry]!, nanos[entry]!)
  }

  size(entry: number): number {
    return this.#columns.entries.size[entry]!
  }

  /** Where a file's data begin in the tar. Of no meaning for a sparse or an empty file. */
  dataOffset(entry: number): number {
    return this.#columns.entries.value[entry]!
  }

  /**
   * The entry that a `KIND.link` is another name of: earlier than the link, a non-directory and no
   * `KIND.link` itself.
   */
  target(entry: number): number {
    return this.#columns.entries.value[entry]!
  }

  major(entry: number): number {
    return this.#columns.entries.value[entry]! >>> 20
  }

  minor(entry: number): number {
    return this.#columns.entries.value[entry]! & 0xfffff
  }

  /** The root's parent is the root. */
  parent(entry: number): number {
    return this.#columns.entries.parent[entry]!
  }

  /** The children of a directory are `firstChild(d)` up to, not including, `firstChild(d + 1)`. */
  firstChild(entry: number): number {
    return this.#firstChild[entry]!
  }

  nameStart(entry: number): number {
    return entry === 0 ? 0 : this.#columns.entries.textEnd[entry - 1]!
  }

  nameEnd(entry: number): number {
    return this.#columns.entries.nameEnd[entry]!
  }

  /** The bytes of the name; a view. The root's is empty. */
  name(entry: number): Buffer {
    return this.#columns.names.subarray(this.nameStart(entry), this.nameEnd(entry))
  }

  /** A symbolic link's target, or the path below that a lower link names; a view. */
  text(entry: number): Buffer {
    return this.#columns.names.subarray(this.nameEnd(entry), this.#columns.entries.textEnd[entry])
  }

  /** The path from the root, without a leading slash; the root's is empty. */
  path(entry: number): Buffer {
    const parts: Buffer[] = []
    for (let at = entry; at !== 0; at = this.parent(at)) parts.push(this.name(at))
    return joinPath(parts.reverse())
  }

  xattrs(entry: number): readonly Xattr[] {
    return Array.from(this.xattrNumbers(entry), (attribute) => this.xattr(attribute))
  }

  /**
   * The numbers of an entry's extended attributes, sorted by their names. What several entries have
   * in common has one number, so that a writer can keep it once. A view.
   */
  xattrNumbers(entry: number): Uint32Array {
    if ((this.flags(entry) & FLAG.xattrs) === 0) return NO_NUMBERS
    const { owner, set, setEnd, members } = this.#columns.xattrs
    const number = set[lowerBound(owner, entry)]!
    return members.subarray(number === 0 ? 0 : setEnd[number - 1], setEnd[number])
  }

  /** How many different extended attributes there are. */
  get xattrCount(): number {
    return this.#columns.xattrs.nameEnd.length
  }

  /** Name and value of an extended attribute, by its number; views. */
  xattr(attribute: number): Xattr {
    const { nameEnd, valueEnd, bytes } = this.#columns.xattrs
    return [
      bytes.subarray(attribute === 0 ? 0 : valueEnd[attribute - 1], nameEnd[attribute]),
      bytes.subarray(nameEnd[attribute], valueEnd[attribute]),
    ]
  }

  /**
   * Where the first byte of a file's data is in the tar: also of a sparse file, which may have none
   * (0).
   */
  dataStart(entry: number): number {
    if ((this.flags(entry) & FLAG.sparse) === 0) return this.dataOffset(entry)
    const { owner, data } = this.#columns.sparse
    const row = lowerBound(owner, entry)
    return owner[row] === entry ? data[row]! : 0
  }

  /** The ranges of a sparse file that hold data, in order; undefined for a file in one run. */
  sparse(entry: number): SparseRange[] | undefined {
    if ((this.flags(entry) & FLAG.sparse) === 0) return undefined
    const { owner, offset, size, data } = this.#columns.sparse
    const found: SparseRange[] = []
    for (let row = lowerBound(owner, entry); owner[row] === entry; row++)
      found.push({ offset: offset[row]!, size: size[row]!, dataOffset: data[row]! })
    return found
  }

  /** Not a copy: not to be written to. */
  encode(): Buffer {
    return this.#columns.encoded
  }

  /**
   * Every rule of the format is checked: what comes back can be walked without a further look. Else
   * `corrupt`.
   */
  static decode(bytes: Uint8Array): LayerIndex {
    const columns = decodeColumns(bytes)
    validate(columns)
    return new LayerIndex(columns)
  }
}

const NO_NUMBERS = new Uint32Array(0)
const SLASH = Buffer.from('/')

export function joinPath(parts: readonly Buffer[]): Buffer {
  return Buffer.concat(parts.flatMap((part, index) => (index === 0 ? [part] : [SLASH, part])))
}
