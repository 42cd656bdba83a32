import type { LayerIndex } from '../index/layer-index.js'

/**
 * What a driver that keeps one folder a layer has to do for an entry. Values of
 * `LayerDelta.action`.
 */
export const ACTION = {
  /** Nothing: a whiteout that hides nothing. */
  none: 0,
  /** Make the directory with the attributes of its source. */
  directory: 1,
  /** Make the inode (file, symbolic link, device, fifo) with attributes and data of its source. */
  node: 2,
  /** Link to `linkTo(entry)`, an earlier entry of this layer that was a `node`. */
  link: 3,
  /** Hide what the layers below have under this name. */
  whiteout: 4,
} as const
export type Action = (typeof ACTION)[keyof typeof ACTION]

/**
 * One layer as it changes the layers below it, by the entries of its index (parents come before
 * children; names and parents are the index's).
 *
 * The source of an entry is the layer (by its place in the stack) and entry whose attributes and
 * data it has: itself, or below, for a directory that the tar only implies and the layers below
 * have, and for a hard link into a lower layer, whose file such a driver has to copy.
 */
export class LayerDelta {
  constructor(
    readonly index: LayerIndex,
    /** The place of this layer in the stack. */
    readonly layer: number,
    readonly columns: {
      readonly action: Uint8Array
      readonly opaque: Uint8Array
      readonly sourceLayer: Uint16Array
      readonly sourceEntry: Uint32Array
      readonly linkTo: Uint32Array
    },
  ) {}

  action(entry: number): Action {
    return this.columns.action[entry] as Action
  }

  /** A directory that the layers below have too, and whose contents there are hidden. */
  opaque(entry: number): boolean {
    return this.columns.opaque[entry] === 1
  }

  sourceLayer(entry: number): number {
    return this.columns.sourceLayer[entry]!
  }

  sourceEntry(entry: number): number {
    return this.columns.sourceEntry[entry]!
  }

  /** Of a `link`: the entry of this layer to link to. */
  linkTo(entry: number): number {
    return this.columns.linkTo[entry]!
  }
}
