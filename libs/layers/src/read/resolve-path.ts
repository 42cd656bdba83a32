import { StrataError } from '@strata/base'
import { KIND } from '../kind.js'
import { MAX_PATH, quoted } from '../index/layer-path.js'
import type { MergedTree } from '../merge/merged-tree.js'

/** As Linux has it (path_resolution(7)). */
const MAX_LINKS = 40
const SLASH = 0x2f

/**
 * The node that a path means, as the kernel would find it with the tree as its root: symbolic links
 * are followed, the last one too, an absolute one begins at the tree's root again, and `..` of the
 * root is the root. So no path leads out of it, and none takes longer than 40 links of 4,095 bytes.
 *
 * Errors: `not_found`, `bad_request` for a path that no file system takes and for more than 40
 * links.
 */
export function resolvePath(tree: MergedTree, path: Uint8Array): number {
  if (path.length >= MAX_PATH) throw new StrataError('bad_request', `the path has more than ${MAX_PATH - 1} bytes`)
  if (path.includes(0)) throw new StrataError('bad_request', `the path ${quoted(path)} has a zero byte in it`)
  let links = 0
  const folder = (node: number): void => {
    if (!tree.isDirectory(tree.inode(node))) throw notFound(path, 'a part of it is not a folder')
  }
  const walk = (from: number, bytes: Uint8Array): number => {
    let node = from
    if (bytes[0] === SLASH) node = 0
    for (let start = 0; start < bytes.length;) {
      let end = bytes.indexOf(SLASH, start)
      if (end < 0) end = bytes.length
      node = step(node, bytes.subarray(start, end))
      start = end + 1
    }
    if (bytes.at(-1) === SLASH) folder(node)
    return node
  }
  const step = (directory: number, name: Uint8Array): number => {
    folder(directory)
    if (name.length === 0 || isDots(name, 1)) return directory
    if (isDots(name, 2)) return tree.parent(directory)
    const node = tree.child(directory, name)
    if (node === undefined) throw notFound(path)
    const inode = tree.inode(node)
    if (tree.kind(inode) !== KIND.symlink) return node
    if (++links > MAX_LINKS)
      throw new StrataError(
        'bad_request',
        `the path ${quoted(path)} leads through more than ${MAX_LINKS} symbolic links`,
      )
    return walk(directory, tree.symlink(inode))
  }
  return walk(0, path)
}

function isDots(name: Uint8Array, count: number): boolean {
  return name.length === count && name.every((byte) => byte === 0x2e)
}

function notFound(path: Uint8Array, why?: string): StrataError {
  return new StrataError('not_found', `there is no ${quoted(path)}${why ? `: ${why}` : ''}`)
}
