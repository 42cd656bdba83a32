import { compareBytes, grown } from '../index/bytes.js'
import { KIND } from '../kind.js'
import type { LayerIndex } from '../index/layer-index.js'
import { MergedTree } from './merged-tree.js'

export const NO_NODE = 0xffffffff

/**
 * The tree while layers are applied to it: nodes (names) and inodes as columns, and each
 * directory's children as a run, sorted by name bytes, in one arena.
 *
 * Nothing of a layer is copied: a node's name and an inode's attributes are found by (layer,
 * entry). What a layer removes is merely no longer reached.
 */
export class NodeTable {
  #nodes = 0
  #nodeLayer = new Uint16Array(1024)
  #nodeEntry = new Uint32Array(1024)
  #nodeInode = new Uint32Array(1024)
  #runStart = new Uint32Array(1024)
  #runLength = new Uint32Array(1024)
  #inodes = 0
  #inodeLayer = new Uint16Array(1024)
  #inodeEntry = new Uint32Array(1024)
  #arena = new Uint32Array(1024)
  #arenaEnd = 0

  constructor(readonly layers: readonly LayerIndex[]) {}

  /** A new name; of a new inode unless one is given. */
  add(layer: number, entry: number, inode = this.#addInode(layer, entry)): number {
    const node = this.#nodes++
    if (node === this.#nodeLayer.length) this.#growNodes()
    this.#nodeLayer[node] = layer
    this.#nodeEntry[node] = entry
    this.#nodeInode[node] = inode
    return node
  }

  #addInode(layer: number, entry: number): number {
    const inode = this.#inodes++
    if (inode === this.#inodeLayer.length) {
      this.#inodeLayer = grown(this.#inodeLayer, inode * 2)
      this.#inodeEntry = grown(this.#inodeEntry, inode * 2)
    }
    this.setSource(inode, layer, entry)
    return inode
  }

  #growNodes(): void {
    const size = this.#nodeLayer.length * 2
    this.#nodeLayer = grown(this.#nodeLayer, size)
    this.#nodeEntry = grown(this.#nodeEntry, size)
    this.#nodeInode = grown(this.#nodeInode, size)
    this.#runStart = grown(this.#runStart, size)
    this.#runLength = grown(this.#runLength, size)
  }

  inode(node: number): number {
    return this.#nodeInode[node]!
  }

  sourceLayer(inode: number): number {
    return this.#inodeLayer[inode]!
  }

  sourceEntry(inode: number): number {
    return this.#inodeEntry[inode]!
  }

  setSource(inode: number, layer: number, entry: number): void {
    this.#inodeLayer[inode] = layer
    this.#inodeEntry[inode] = entry
  }

  isDirectory(node: number): boolean {
    const inode = this.#nodeInode[node]!
    return this.layers[this.#inodeLayer[inode]!]!.kind(this.#inodeEntry[inode]!) === KIND.directory
  }

  clearChildren(node: number): void {
    this.#runLength[node] = 0
  }

  /**
   * Merges sorted entries `from` up to `to` of a layer's index into a directory's run. `place` is
   * told each entry and the node that has its name already, or NO_NODE, and answers with the node
   * that shall have it from now on, or NO_NODE for none.
   *
   * Each name is sought by a growing stride from the one before, so that a small layer over a huge
   * directory costs logarithms and one block copy.
   */
  mergeChildren(
    directory: number,
    index: LayerIndex,
    from: number,
    to: number,
    place: (entry: number, existing: number) => number,
  ): void {
    this.#reserve(this.#runLength[directory]! + to - from)
    const arena = this.#arena
    const start = this.#runStart[directory]!
    const end = start + this.#runLength[directory]!
    let at = start
    let out = this.#arenaEnd
    for (let entry = from; entry < to; entry++) {
      const found = this.#seek(at, end, index, entry)
      arena.copyWithin(out, at, found)
      out += found - at
      at = found
      let existing = NO_NODE
      if (at < end && this.#compare(arena[at]!, index, entry) === 0) existing = arena[at++]!
      const node = place(entry, existing)
      if (node !== NO_NODE) arena[out++] = node
    }
    arena.copyWithin(out, at, end)
    out += end - at
    const length = out - this.#arenaEnd
    if (length <= end - start) {
      arena.copyWithin(start, this.#arenaEnd, out)
    } else {
      this.#runStart[directory] = this.#arenaEnd
      this.#arenaEnd = out
    }
    this.#runLength[directory] = length
  }

  /** Where in the run `[at, end)` the entry's name stands or would stand. */
  #seek(at: number, end: number, index: LayerIndex, entry: number): number {
    let low = at
    let stride = 1
    while (low + stride <= end && this.#compare(this.#arena[low + stride - 1]!, index, entry) < 0) {
      low += stride
      stride *= 2
    }
    let high = Math.min(low + stride - 1, end)
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#compare(this.#arena[middle]!, index, entry) < 0) low = middle + 1
      else high = middle
    }
    return low
  }

  #compare(node: number, index: LayerIndex, entry: number): number {
    const layer = this.layers[this.#nodeLayer[node]!]!
    const own = this.#nodeEntry[node]!
    return compareBytes(
      layer.columns.names,
      layer.nameStart(own),
      layer.nameEnd(own),
      index.columns.names,
      index.nameStart(entry),
      index.nameEnd(entry),
    )
  }

  /** The node at a clean path (no empty component, no dots). */
  lookup(path: Buffer): number | undefined {
    let node = 0
    for (let start = 0; start < path.length;) {
      let end = path.indexOf(0x2f, start)
      if (end < 0) end = path.length
      const child = this.#child(node, path, start, end)
      if (child === NO_NODE) return undefined
      node = child
      start = end + 1
    }
    return node
  }

  #child(directory: number, path: Buffer, start: number, end: number): number {
    let low = this.#runStart[directory]!
    let high = low + this.#runLength[directory]!
    while (low < high) {
      const middle = (low + high) >>> 1
      const node = this.#arena[middle]!
      const layer = this.layers[this.#nodeLayer[node]!]!
      const own = this.#nodeEntry[node]!
      const order = compareBytes(layer.columns.names, layer.nameStart(own), layer.nameEnd(own), path, start, end)
      if (order === 0) return node
      if (order < 0) low = middle + 1
      else high = middle
    }
    return NO_NODE
  }

  /**
   * Room for `length` more children. Runs left behind are dropped when the arena is full, so its
   * size stays in proportion to what is reached.
   */
  #reserve(length: number): void {
    if (this.#arenaEnd + length <= this.#arena.length) return
    const order = this.#reached()
    const arena = new Uint32Array(Math.max(1024, 2 * (order.length + length)))
    let end = 0
    for (const node of order) {
      const start = this.#runStart[node]!
      const run = this.#runLength[node]!
      if (run === 0) continue
      arena.set(this.#arena.subarray(start, start + run), end)
      this.#runStart[node] = end
      end += run
    }
    this.#arena = arena
    this.#arenaEnd = end
  }

  /** All nodes in use, breadth first. */
  #reached(): Uint32Array {
    const order = new Uint32Array(this.#nodes)
    let count = Math.min(1, this.#nodes)
    for (let at = 0; at < count; at++) {
      const node = order[at]!
      const run = this.#runLength[node]!
      if (run === 0) continue
      order.set(this.#arena.subarray(this.#runStart[node], this.#runStart[node]! + run), count)
      count += run
    }
    return order.subarray(0, count)
  }

  tree(): MergedTree {
    const order = this.#reached()
    const count = order.length
    const columns = {
      parent: new Uint32Array(count),
      nodeLayer: new Uint16Array(count),
      nodeEntry: new Uint32Array(count),
      inode: new Uint32Array(count),
      firstChild: new Uint32Array(count + 1),
    }
    const numbers = new Uint32Array(this.#inodes).fill(NO_NODE)
    const inodeNode = new Uint32Array(count)
    const links = new Uint32Array(count)
    let inodes = 0
    let child = 1
    for (let at = 0; at < count; at++) {
      const node = order[at]!
      columns.nodeLayer[at] = this.#nodeLayer[node]!
      columns.nodeEntry[at] = this.#nodeEntry[node]!
      const old = this.#nodeInode[node]!
      let inode = numbers[old]!
      if (inode === NO_NODE) {
        inode = numbers[old] = inodes++
        inodeNode[inode] = at
      }
      columns.inode[at] = inode
      links[inode]!++
      columns.firstChild[at] = child
      const end = child + this.#runLength[node]!
      columns.parent.fill(at, child, end)
      child = end
    }
    columns.firstChild[count] = child
    const inodeLayer = new Uint16Array(inodes)
    const inodeEntry = new Uint32Array(inodes)
    for (let inode = 0; inode < inodes; inode++) {
      const old = this.#nodeInode[order[inodeNode[inode]!]!]!
      inodeLayer[inode] = this.#inodeLayer[old]!
      inodeEntry[inode] = this.#inodeEntry[old]!
    }
    return new MergedTree([...this.layers], {
      ...columns,
      inodeLayer,
      inodeEntry,
      inodeNode: inodeNode.slice(0, inodes),
      links: links.slice(0, inodes),
    })
  }
}
