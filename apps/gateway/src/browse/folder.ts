import type { FileListView } from '@strata/api'
import { resolvePath, type MergedTree } from '@strata/layers'
import { fileView } from './file-views.js'
import { textOf } from './name-text.js'
import type { OpenTree } from './trees.js'

/**
 * A page ends after the file that makes its extended attributes larger than this, in bytes. Each of
 * ten thousand files may have 256 KiB of them.
 */
const MAX_PAGE_XATTRS = 4 * 1024 * 1024

const SLASH = Buffer.from('/')

/**
 * One page of what a folder holds, in the order of the names' bytes.
 *
 * @param isAlone whether the view is of one layer, which may have whiteouts and opaque folders
 * @throws StrataError `not_found`, `bad_request` for a path that leads nowhere
 */
export function folderPage(
  { tree, layers }: Pick<OpenTree, 'tree' | 'layers'>,
  path: Buffer,
  { offset, limit }: { readonly offset: number; readonly limit: number },
  isAlone: boolean,
): FileListView {
  const node = resolvePath(tree, path)
  const show = (each: number) => fileView(tree, layers, each, isAlone)
  const first = tree.firstChild(node)
  const total = tree.firstChild(node + 1) - first
  const most = Math.min(total, offset + limit)
  const files: FileListView['files'] = []
  let end = offset
  for (let xattrs = 0; end < most && xattrs <= MAX_PAGE_XATTRS; end++) {
    files.push(show(first + end))
    xattrs += xattrBytes(tree, tree.inode(first + end))
  }
  return {
    ...textOf('path', Buffer.concat([SLASH, tree.path(node)])),
    self: show(node),
    total,
    files,
    ...(end < total ? { next: end } : {}),
  }
}

function xattrBytes(tree: MergedTree, inode: number): number {
  return tree.xattrs(inode).reduce((sum, [name, value]) => sum + name.length + value.length, 0)
}
