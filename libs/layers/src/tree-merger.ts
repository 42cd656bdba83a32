import { StrataError } from '@strata/oci'
import { NodeTable } from './node-table.js'
import { FLAG, KIND } from './kind.js'
import { ACTION, LayerDelta } from './layer-delta.js'
import type { LayerIndex } from './layer-index.js'
import type { MergedTree } from './merged-tree.js'

/** Layers of one stack: their places are kept in 16 bits. */
const MAX_LAYERS = 65_535

/**
 * Applies layers on top of each other, lowest first (image-spec, layer.md, "Applying Changesets").
 *
 * An index's entries stand breadth first with sorted children, so a layer is applied in one walk over it, merging the sorted children of each directory it has
 * with those already there. A layer that cannot be applied is refused before anything is changed.
 */
export class TreeMerger {
  readonly #layers: LayerIndex[] = []
  readonly #nodes = new NodeTable(this.#layers)

  /** Errors: `layer_invalid` for a hard link whose target is a directory or nowhere, `limit_exceeded` for too many layers. */
  apply(index: LayerIndex): LayerDelta {
    const layer = this.#layers.length
    if (layer >= MAX_LAYERS) throw new StrataError('limit_exceeded', `an image of more than ${MAX_LAYERS} layers is refused`)
    const lower = this.#lowerLinks(index)
    this.#layers.push(index)
    const count = index.count
    const columns = {
      action: new Uint8Array(count), opaque: new Uint8Array(count),
      sourceLayer: new Uint16Array(count).fill(layer), sourceEntry: new Uint32Array(count), linkTo: new Uint32Array(count),
    }
    const nodeOf = new Uint32Array(count)
    if (layer === 0) this.#nodes.add(layer, 0)
    this.#directory(index, layer, 0, 0, columns, layer > 0)
    for (let entry = 0; entry < count; entry++) {
      if (index.kind(entry) === KIND.directory) this.#children(index, layer, entry, nodeOf, lower, columns)
    }
    return new LayerDelta(index, layer, columns)
  }

  /** The tree of the layers applied so far. The merger may go on. */
  tree(): MergedTree {
    return this.#nodes.tree()
  }

  /** Inodes of links into the layers below, by entry. They name what lies there *before* this layer: its own whiteouts do not cut them off. */
  #lowerLinks(index: LayerIndex): Map<number, number> {
    const found = new Map<number, number>()
    const { kind } = index.columns.entries
    for (let entry = kind.indexOf(KIND.lowerLink); entry >= 0; entry = kind.indexOf(KIND.lowerLink, entry + 1)) {
      const node = this.#layers.length === 0 ? undefined : this.#nodes.lookup(index.text(entry))
      if (node === undefined || this.#nodes.isDirectory(node)) {
        throw new StrataError('layer_invalid', `the hard link ${quote(index.path(entry))} names ${quote(index.text(entry))}, which ${node === undefined ? 'is neither in this layer nor below it' : 'is a directory'}`)
      }
      found.set(entry, this.#nodes.inode(node))
    }
    return found
  }

  /** A directory of the layer that is now `node`; `existed` when the layers below have it as a directory and it is not removed first. */
  #directory(index: LayerIndex, layer: number, entry: number, node: number, columns: LayerDelta['columns'], existed: boolean): void {
    const flags = index.flags(entry)
    const inode = this.#nodes.inode(node)
    // Only an entry of its own changes a directory; one that is merely implied keeps what the layers below say.
    if ((flags & FLAG.implied) === 0) this.#nodes.setSource(inode, layer, entry)
    if (existed && (flags & (FLAG.opaque | FLAG.whiteout)) !== 0) {
      this.#nodes.setChildren(node, [], 0)
      columns.opaque[entry] = 1
    }
    columns.action[entry] = ACTION.directory
    columns.sourceLayer[entry] = this.#nodes.sourceLayer(inode)
    columns.sourceEntry[entry] = this.#nodes.sourceEntry(inode)
  }

  #children(index: LayerIndex, layer: number, directory: number, nodeOf: Uint32Array, lower: ReadonlyMap<number, number>, columns: LayerDelta['columns']): void {
    void [index, layer, directory, nodeOf, lower, columns]
  }
}

/** The view of a whole stack, lowest layer first. */
export function mergeLayers(indexes: readonly LayerIndex[]): MergedTree {
  const merger = new TreeMerger()
  for (const index of indexes) merger.apply(index)
  return merger.tree()
}

function quote(bytes: Buffer): string {
  return JSON.stringify(bytes.toString('utf8'))
}
