import type { LayerIndex } from './layer-index.js'
import type { MergedTree } from './merged-tree.js'
void (undefined as unknown as MergedTree)
/** stub */
export class NodeTable {
  constructor(readonly layers: readonly LayerIndex[]) {}
  add(_layer: number, _entry: number): number { return 0 }
  inode(_node: number): number { return 0 }
  isDirectory(_node: number): boolean { return false }
  lookup(_path: Buffer): number | undefined { return undefined }
  setSource(_inode: number, _layer: number, _entry: number): void { /* stub */ }
  setChildren(_node: number, _run: readonly number[], _count: number): void { /* stub */ }
  sourceLayer(_inode: number): number { return 0 }
  sourceEntry(_inode: number): number { return 0 }
  tree(): MergedTree { throw new Error('follows') }
}
