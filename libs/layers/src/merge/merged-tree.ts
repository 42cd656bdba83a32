import { KIND, typeBits, type Kind, type SparseRange, type Xattr } from '../kind.js'
import type { LayerIndex } from '../index/layer-index.js'

/**
 * A node is a name in a directory, an inode what it names; only files and the like have several
 * names. Both begin with the root, number 0.
 */
export interface MergedColumns {
  /**
   * By node: the directory's node. Nodes stand breadth first, children together and sorted by the
   * bytes of their names.
   */
  readonly parent: Uint32Array
  readonly nodeLayer: Uint16Array
  readonly nodeEntry: Uint32Array
  readonly inode: Uint32Array
  /** One longer than the nodes: children of n are `firstChild[n]` up to `firstChild[n + 1]`. */
  readonly firstChild: Uint32Array
  /**
   * By inode: the layer and entry whose attributes and data it has. Inodes are numbered in the
   * order of their first node.
   */
  readonly inodeLayer: Uint16Array
  readonly inodeEntry: Uint32Array
  /** The first node that names the inode. */
  readonly inodeNode: Uint32Array
  /**
   * Names of the inode; 1 for directories (the 2 + subdirectories of a file system is its writer's
   * to count).
   */
  readonly links: Uint32Array
}

/**
 * What a container sees of a stack of layers: no whiteouts, no missing parents, every hard link
 * resolved. Immutable, deterministic.
 */
export class MergedTree {
  /** By layer: how many extended attributes the layers below it have. */
  readonly #xattrsBefore: readonly number[]

  constructor(
    readonly layers: readonly LayerIndex[],
    readonly columns: MergedColumns,
  ) {
    let sum = 0
    this.#xattrsBefore = layers.map((layer) => (sum += layer.xattrCount) - layer.xattrCount)
  }

  get nodeCount(): number {
    return this.columns.nodeEntry.length
  }

  get inodeCount(): number {
    return this.columns.inodeEntry.length
  }

  // Names.
  parent(node: number): number {
    return this.columns.parent[node]!
  }

  inode(node: number): number {
    return this.columns.inode[node]!
  }

  /**
   * The children of a directory are the nodes `firstChild(n)` up to, not including, `firstChild(n +
   * 1)`.
   */
  firstChild(node: number): number {
    return this.columns.firstChild[node]!
  }

  name(node: number): Buffer {
    return this.layers[this.columns.nodeLayer[node]!]!.name(this.columns.nodeEntry[node]!)
  }

  nameLength(node: number): number {
    const layer = this.layers[this.columns.nodeLayer[node]!]!
    const entry = this.columns.nodeEntry[node]!
    return layer.nameEnd(entry) - layer.nameStart(entry)
  }

  /** The name's bytes into `target` at `at`; how many. */
  copyName(node: number, target: Uint8Array, at: number): number {
    const layer = this.layers[this.columns.nodeLayer[node]!]!
    const entry = this.columns.nodeEntry[node]!
    const names = layer.columns.names
    const start = layer.nameStart(entry)
    const length = layer.nameEnd(entry) - start
    // Names are short: a loop is quicker than making a view for `set`.
    for (let index = 0; index < length; index++) target[at + index] = names[start + index]!
    return length
  }

  /** Without a leading slash; the root's is empty. */
  path(node: number): Buffer {
    let length = 0
    for (let at = node; at !== 0; at = this.parent(at)) length += this.nameLength(at) + 1
    const path = Buffer.allocUnsafe(Math.max(0, length - 1))
    let start = path.length
    for (let at = node; at !== 0; at = this.parent(at)) {
      start -= this.nameLength(at)
      this.copyName(at, path, start)
      if (start > 0) path[--start] = 0x2f
    }
    return path
  }

  /**
   * The node at a path from the root, no symbolic link followed; `..` is no name here, so it is
   * never found.
   */
  lookup(path: Uint8Array | string): number | undefined {
    let node = 0
    for (const name of namesOf(typeof path === 'string' ? Buffer.from(path) : path)) {
      const child = this.child(node, name)
      if (child === undefined) return undefined
      node = child
    }
    return node
  }

  /** The node of that name in a directory. */
  child(node: number, name: Uint8Array): number | undefined {
    const end = this.firstChild(node + 1)
    const found = this.seek(this.firstChild(node), end, name)
    return found < end && Buffer.compare(this.name(found), name) === 0 ? found : undefined
  }

  /**
   * Of the nodes from `low` up to `high`, children of one directory: the first one whose name is
   * not before `name`, or `high`.
   */
  seek(low: number, high: number, name: Uint8Array): number {
    let [start, end] = [low, high]
    while (start < end) {
      const middle = (start + end) >>> 1
      if (Buffer.compare(this.name(middle), name) < 0) start = middle + 1
      else end = middle
    }
    return start
  }

  // What they name.
  /** The layer (its place in `layers`) whose tar holds the inode's data. */
  layer(inode: number): number {
    return this.columns.inodeLayer[inode]!
  }

  /** The entry in that layer's index. */
  entry(inode: number): number {
    return this.columns.inodeEntry[inode]!
  }

  /** The first node that names it; of a directory, its only one. */
  node(inode: number): number {
    return this.columns.inodeNode[inode]!
  }

  links(inode: number): number {
    return this.columns.links[inode]!
  }

  #index(inode: number): LayerIndex {
    return this.layers[this.columns.inodeLayer[inode]!]!
  }

  kind(inode: number): Kind {
    return this.#index(inode).kind(this.entry(inode))
  }

  isDirectory(inode: number): boolean {
    return this.kind(inode) === KIND.directory
  }

  /** Permission bits with the type's (S_IFMT). */
  mode(inode: number): number {
    const index = this.#index(inode)
    const entry = this.entry(inode)
    return index.mode(entry) | typeBits(index.kind(entry))
  }

  uid(inode: number): number {
    return this.#index(inode).uid(this.entry(inode))
  }

  gid(inode: number): number {
    return this.#index(inode).gid(this.entry(inode))
  }

  mtime(inode: number): number {
    return this.#index(inode).mtime(this.entry(inode))
  }

  mtimeNanos(inode: number): number {
    return this.#index(inode).mtimeNanos(this.entry(inode))
  }

  size(inode: number): number {
    return this.#index(inode).size(this.entry(inode))
  }

  dataOffset(inode: number): number {
    return this.#index(inode).dataOffset(this.entry(inode))
  }

  sparse(inode: number): SparseRange[] | undefined {
    return this.#index(inode).sparse(this.entry(inode))
  }

  major(inode: number): number {
    return this.#index(inode).major(this.entry(inode))
  }

  minor(inode: number): number {
    return this.#index(inode).minor(this.entry(inode))
  }

  /** A symbolic link's target. */
  symlink(inode: number): Buffer {
    return this.#index(inode).text(this.entry(inode))
  }

  xattrs(inode: number): readonly Xattr[] {
    return this.#index(inode).xattrs(this.entry(inode))
  }

  /** As `LayerIndex.xattrNumbers`, counted through all layers. */
  xattrNumbers(inode: number): Uint32Array {
    const numbers = this.#index(inode).xattrNumbers(this.entry(inode))
    const before = this.#xattrsBefore[this.layer(inode)]!
    return before === 0 || numbers.length === 0 ? numbers : numbers.map((number) => number + before)
  }

  xattr(number: number): Xattr {
    let [layer, end] = [0, this.layers.length]
    while (end - layer > 1) {
      const middle = (layer + end) >>> 1
      if (this.#xattrsBefore[middle]! <= number) layer = middle
      else end = middle
    }
    return this.layers[layer]!.xattr(number - this.#xattrsBefore[layer]!)
  }

  /** As `LayerIndex.dataStart`. */
  dataStart(inode: number): number {
    return this.#index(inode).dataStart(this.entry(inode))
  }
}

/** The names of a path, in their order. Empty ones are left out. */
export function* namesOf(path: Uint8Array): Generator<Uint8Array> {
  for (let start = 0; start < path.length;) {
    let end = path.indexOf(SLASH, start)
    if (end < 0) end = path.length
    if (end > start) yield path.subarray(start, end)
    start = end + 1
  }
}

const SLASH = 0x2f
