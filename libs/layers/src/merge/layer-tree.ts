import { KIND } from '../kind.js'
import type { LayerIndex } from '../index/layer-index.js'
import { MergedTree } from './merged-tree.js'

/**
 * One layer by itself in the form of a merged view, a node for each entry: with its whiteouts, the
 * directories that it only implies, and its links to the layers below (`KIND.whiteout` and
 * `KIND.lowerLink`, which a view of a whole stack has not).
 */
export function layerTree(index: LayerIndex): MergedTree {
  const count = index.count
  const inode = new Uint32Array(count)
  const inodeEntry = new Uint32Array(count)
  const links = new Uint32Array(count)
  let inodes = 0
  for (let entry = 0; entry < count; entry++) {
    // A link comes behind the entry that it is another name of.
    if (index.kind(entry) === KIND.link) inode[entry] = inode[index.target(entry)]!
    else {
      inodeEntry[inodes] = entry
      inode[entry] = inodes++
    }
    links[inode[entry]!]!++
  }
  const firstChild = Uint32Array.from({ length: count + 1 }, (_, entry) => index.firstChild(entry))
  const entries = inodeEntry.slice(0, inodes)
  return new MergedTree([index], {
    parent: index.columns.entries.parent,
    nodeLayer: new Uint16Array(count),
    nodeEntry: Uint32Array.from({ length: count }, (_, entry) => entry),
    inode,
    firstChild,
    inodeLayer: new Uint16Array(inodes),
    inodeEntry: entries,
    inodeNode: entries,
    links: links.slice(0, inodes),
  })
}
