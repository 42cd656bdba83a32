import { StrataError } from '@strata/base'
import { IndexBuilder } from '../index/index-builder.js'
import { FLAG, KIND } from '../kind.js'
import { ACTION, LayerDelta, type Action } from './layer-delta.js'
import type { LayerIndex } from '../index/layer-index.js'
import { quoted } from '../index/layer-path.js'
import type { MergedTree } from './merged-tree.js'
import { NO_NODE, NodeTable } from './node-table.js'

/** Layers of one stack: their places are kept in 16 bits. */
const MAX_LAYERS = 65_535

/**
 * Applies layers on top of each other, lowest first (image-spec, layer.md, "Applying Changesets").
 *
 * An index's entries stand breadth first with sorted children, so a layer is applied in one walk
 * over it, merging the sorted children of each directory it has with those already there. A layer
 * that cannot be applied is refused before anything is changed.
 */
export class TreeMerger {
  readonly #layers: LayerIndex[] = []
  readonly #nodes = new NodeTable(this.#layers)

  /**
   * Errors: `layer_invalid` for a hard link whose target is a directory or nowhere,
   * `limit_exceeded` for too many layers.
   */
  apply(index: LayerIndex): LayerDelta {
    const layer = this.#layers.length
    if (layer >= MAX_LAYERS)
      throw new StrataError('limit_exceeded', `an image of more than ${MAX_LAYERS} layers is refused`)
    const lower = this.#lowerLinks(index)
    this.#layers.push(index)
    return new LayerDelta(index, layer, new Application(this.#nodes, index, layer, lower).run())
  }

  /** The tree of the layers applied so far; of none, an empty root. The merger may go on. */
  tree(): MergedTree {
    // An image of no layers is one empty folder, which is what the index of an empty tar holds.
    if (this.#layers.length === 0) return mergeLayers([new IndexBuilder().finish(0)])
    return this.#nodes.tree()
  }

  /**
   * Inodes of links into the layers below, by entry. They name what lies there *before* this layer:
   * its own whiteouts do not cut them off.
   */
  #lowerLinks(index: LayerIndex): Map<number, number> {
    const found = new Map<number, number>()
    const { kind } = index.columns.entries
    for (let entry = kind.indexOf(KIND.lowerLink); entry >= 0; entry = kind.indexOf(KIND.lowerLink, entry + 1)) {
      const node = this.#layers.length === 0 ? undefined : this.#nodes.lookup(index.text(entry))
      if (node === undefined || this.#nodes.isDirectory(node)) {
        const why = node === undefined ? 'is neither in its layer nor below it' : 'is a directory'
        throw new StrataError(
          'layer_invalid',
          `the hard link ${quoted(index.path(entry))} names ${quoted(index.text(entry))}, which ${why}`,
        )
      }
      found.set(entry, this.#nodes.inode(node))
    }
    return found
  }
}

/** One layer being applied: cannot fail any more. */
class Application {
  readonly #delta: LayerDelta['columns']
  /** The node of each directory of the layer, the inode of everything else. */
  readonly #made: Uint32Array
  /**
   * The entry of this layer that first named an inode of the layers below: a driver copies a file
   * once and links its further names.
   */
  readonly #copied = new Map<number, number>()

  constructor(
    readonly nodes: NodeTable,
    readonly index: LayerIndex,
    readonly layer: number,
    readonly lower: ReadonlyMap<number, number>,
  ) {
    const count = index.count
    this.#made = new Uint32Array(count)
    this.#delta = {
      action: new Uint8Array(count),
      opaque: new Uint8Array(count),
      sourceLayer: new Uint16Array(count),
      sourceEntry: new Uint32Array(count),
      linkTo: new Uint32Array(count),
    }
  }

  run(): LayerDelta['columns'] {
    if (this.layer === 0) this.nodes.add(0, 0)
    this.#directory(0, 0, this.layer > 0)
    const { kind } = this.index.columns.entries
    const place = this.#place.bind(this)
    for (let entry = 0; entry < kind.length; entry++) {
      if (kind[entry] !== KIND.directory) continue
      const from = this.index.firstChild(entry)
      const to = this.index.firstChild(entry + 1)
      if (from < to) this.nodes.mergeChildren(this.#made[entry]!, this.index, from, to, place)
    }
    return this.#delta
  }

  #place(entry: number, existing: number): number {
    const kind = this.index.kind(entry)
    if (kind === KIND.whiteout) {
      this.#delta.action[entry] = existing === NO_NODE ? ACTION.none : ACTION.whiteout
      return NO_NODE
    }
    if (kind === KIND.directory) {
      const existed = existing !== NO_NODE && this.nodes.isDirectory(existing)
      // A directory over anything else replaces it; over a directory it is the same one, unless a
      // whiteout removes that first.
      const kept = existed && (this.index.flags(entry) & FLAG.whiteout) === 0
      const node = kept ? existing : this.nodes.add(this.layer, entry)
      this.#directory(entry, node, existed)
      return node
    }
    if (kind === KIND.link) return this.#link(entry, this.#made[this.index.target(entry)]!, this.index.target(entry))
    if (kind === KIND.lowerLink) {
      const inode = this.lower.get(entry)!
      const first = this.#copied.get(inode)
      if (first !== undefined) return this.#link(entry, inode, first)
      this.#copied.set(inode, entry)
      const node = this.nodes.add(this.layer, entry, inode)
      this.#record(entry, ACTION.node, inode)
      return node
    }
    const node = this.nodes.add(this.layer, entry)
    this.#record(entry, ACTION.node, this.nodes.inode(node))
    return node
  }

  /** `existed`: the layers below have a directory of this name. */
  #directory(entry: number, node: number, existed: boolean): void {
    const flags = this.index.flags(entry)
    // Only an entry of its own changes a directory; one that is merely implied keeps what the
    // layers below say.
    if ((flags & FLAG.implied) === 0) this.nodes.setSource(this.nodes.inode(node), this.layer, entry)
    if (existed && (flags & (FLAG.opaque | FLAG.whiteout)) !== 0) {
      this.nodes.clearChildren(node)
      this.#delta.opaque[entry] = 1
    }
    this.#record(entry, ACTION.directory, this.nodes.inode(node))
    this.#made[entry] = node
  }

  #link(entry: number, inode: number, first: number): number {
    this.#record(entry, ACTION.link, inode)
    // A link may name a lower link that is itself one more name of something this layer already
    // has.
    this.#delta.linkTo[entry] = this.#delta.action[first] === ACTION.link ? this.#delta.linkTo[first]! : first
    return this.nodes.add(this.layer, entry, inode)
  }

  #record(entry: number, action: Action, inode: number): void {
    this.#delta.action[entry] = action
    this.#delta.sourceLayer[entry] = this.nodes.sourceLayer(inode)
    this.#delta.sourceEntry[entry] = this.nodes.sourceEntry(inode)
    if (action !== ACTION.directory) this.#made[entry] = inode
  }
}

/** The view of a whole stack, lowest layer first. */
export function mergeLayers(indexes: readonly LayerIndex[]): MergedTree {
  const merger = new TreeMerger()
  for (const index of indexes) merger.apply(index)
  return merger.tree()
}
