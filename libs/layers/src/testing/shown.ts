import { KIND } from '../kind.js'
import { ACTION, type LayerDelta } from '../merge/layer-delta.js'
import type { MergedTree } from '../merge/merged-tree.js'

const LETTER: Record<number, string> = {
  [KIND.file]: 'f',
  [KIND.directory]: 'd',
  [KIND.symlink]: 'l',
  [KIND.char]: 'c',
  [KIND.block]: 'b',
  [KIND.fifo]: 'p',
}

/** A line for each name but the root: type, octal permissions, path. */
export function shown(tree: MergedTree): string[] {
  const lines: string[] = []
  for (let node = 1; node < tree.nodeCount; node++)
    lines.push(
      `${LETTER[tree.kind(tree.inode(node))]!}${(tree.mode(tree.inode(node)) & 0o7777).toString(8)} ${tree.path(node).toString()}`,
    )
  return lines.sort()
}

/** The lines of `OddStack.tree`. */
export function describedTree(tree: MergedTree): string[] {
  const lines: string[] = []
  for (let node = 0; node < tree.nodeCount; node++) {
    const inode = tree.inode(node)
    const kind = tree.kind(inode)
    const first = tree.node(inode)
    const words = [
      `${LETTER[kind]!}${(tree.mode(inode) & 0o7777).toString(8)}`,
      `${tree.uid(inode)}:${tree.gid(inode)}`,
      node === 0 ? '/' : tree.path(node).toString(),
      ...(kind === KIND.symlink ? [`-> ${tree.symlink(inode).toString()}`] : []),
      ...(first === node ? [] : [`= ${tree.path(first).toString()}`]),
      ...tree.xattrs(inode).map(([name]) => `[${name.toString()}]`),
    ]
    lines.push(words.join(' '))
  }
  return lines.sort()
}

/** Groups of names that are one inode. */
export function linked(tree: MergedTree): string[][] {
  const groups = Array.from({ length: tree.inodeCount }, (): string[] => [])
  for (let node = 0; node < tree.nodeCount; node++) groups[tree.inode(node)]!.push(tree.path(node).toString())
  return groups.filter((group) => group.length > 1)
}

/**
 * A line for each entry of the layer that asks for something: what, path, and where it differs from
 * the entry's own, source or target.
 */
export function actions(delta: LayerDelta): string[] {
  const words = Object.fromEntries(Object.entries(ACTION).map(([word, number]) => [number, word]))
  const lines: string[] = []
  for (let entry = 0; entry < delta.index.count; entry++) {
    const action = delta.action(entry)
    if (action === ACTION.none || entry === 0) continue
    const from =
      delta.sourceLayer(entry) === delta.layer || action === ACTION.whiteout
        ? ''
        : ` from ${delta.sourceLayer(entry)}:${delta.sourceEntry(entry)}`
    const to = action === ACTION.link ? ` to ${delta.index.path(delta.linkTo(entry)).toString()}` : from
    lines.push(`${words[action]!}${delta.opaque(entry) ? ' opaque' : ''} ${delta.index.path(entry).toString()}${to}`)
  }
  return lines
}
