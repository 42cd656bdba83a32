import type { ChangeView, FileView } from '@strata/api'
import type { ImageLayer } from '@strata/images'
import { FLAG, KIND, type Change, type Kind, type MergedTree } from '@strata/layers'
import { textOf } from './name-text.js'

const TYPES: Readonly<Record<Kind, FileView['type']>> = {
  [KIND.file]: 'file',
  [KIND.directory]: 'directory',
  [KIND.symlink]: 'symlink',
  [KIND.char]: 'char',
  [KIND.block]: 'block',
  [KIND.fifo]: 'fifo',
  // A merged view has no `KIND.link`: such an entry is one more name of an inode.
  [KIND.link]: 'hardlink',
  [KIND.lowerLink]: 'hardlink',
  [KIND.whiteout]: 'whiteout',
}

/**
 * An entry of a view in the form of the API.
 * @param layers the layers of the view, as blobs
 * @param isAlone whether the view is of one layer, which may have opaque folders
 */
export function fileView(tree: MergedTree, layers: readonly ImageLayer[], node: number, isAlone: boolean): FileView {
  const inode = tree.inode(node)
  const kind = tree.kind(inode)
  const nanos = tree.mtimeNanos(inode)
  const links = tree.links(inode)
  const xattrs = tree.xattrs(inode)
  const from = layers[tree.layer(inode)]
  const isOpaque = isAlone && (tree.layers[0]!.flags(tree.entry(inode)) & FLAG.opaque) !== 0
  return {
    ...textOf('name', tree.name(node)),
    type: TYPES[kind],
    size: tree.size(inode),
    mode: (tree.mode(inode) & 0o7777).toString(8).padStart(4, '0'),
    uid: tree.uid(inode),
    gid: tree.gid(inode),
    mtime: tree.mtime(inode),
    ...(nanos === 0 ? {} : { mtimeNanos: nanos }),
    ...(links > 1 ? { links } : {}),
    ...(kind === KIND.symlink || kind === KIND.lowerLink ? textOf('target', tree.symlink(inode)) : {}),
    ...(kind === KIND.char || kind === KIND.block
      ? { device: [tree.major(inode), tree.minor(inode)] as [number, number] }
      : {}),
    ...(xattrs.length > 0
      ? { xattrs: Object.fromEntries(xattrs.map(([name, value]) => [name.toString(), value.toString('base64')])) }
      : {}),
    ...(isOpaque ? { opaque: true as const } : {}),
    ...(from ? { layer: from.diffId } : {}),
  }
}

/**
 * A change between two views in the form of the API.
 * @param path where the change is, from the root
 */
export function changeView(
  before: MergedTree,
  after: MergedTree,
  change: Exclude<Change, { kind: 'alike' }>,
  path: Buffer,
): ChangeView {
  const [tree, node] = change.kind === 'removed' ? [before, change.before] : [after, change.after]
  return {
    ...textOf('path', path),
    kind: change.kind,
    type: TYPES[tree.kind(tree.inode(node))],
    ...(change.kind === 'added' ? {} : { before: before.size(before.inode(change.before)) }),
    ...(change.kind === 'removed' ? {} : { after: after.size(after.inode(change.after)) }),
    ...(change.kind === 'changed' ? { aspects: [...change.aspects] } : {}),
  }
}
