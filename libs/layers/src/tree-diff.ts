import { KIND } from './kind.js'
import type { MergedTree } from './merged-tree.js'

/** What two trees may differ in at one path. */
export const ASPECTS = ['type', 'size', 'mtime', 'mode', 'owner', 'target', 'device', 'xattrs'] as const
export type Aspect = (typeof ASPECTS)[number]

/**
 * A path that is not the same in two trees: a node of the one, of the other, or of both. What lies
 * in a folder that was added or removed comes one by one.
 */
export type Change =
  | { readonly kind: 'added'; readonly after: number }
  | { readonly kind: 'removed'; readonly before: number }
  | { readonly kind: 'changed'; readonly before: number; readonly after: number; readonly aspects: readonly Aspect[] }
  /**
   * Alike in all that an index knows, size and time among them, but not of one layer: only their
   * bytes could tell whether they differ.
   */
  | { readonly kind: 'alike'; readonly before: number; readonly after: number }

/**
 * All changes that make `after` of `before`, a folder before what lies in it, names in the order of
 * their bytes. The bytes of files are not read: what comes from one place of one layer is the same,
 * of everything else the attributes are compared, and a time counts for what the bytes are. A
 * folder's time tells nothing that its contents do not, and is left out.
 */
export function* diffTrees(before: MergedTree, after: MergedTree): Generator<Change> {
  yield* changeOf(before, 0, after, 0)
  // Not by recursion: a path may be a thousand folders deep.
  const folders = [runsOf(before, 0, after, 0)]
  for (let runs = folders.at(-1); runs; runs = folders.at(-1)) {
    const { old, oldEnd, now, nowEnd } = runs
    if (old === oldEnd && now === nowEnd) {
      folders.pop()
      continue
    }
    const order = old === oldEnd ? 1 : now === nowEnd ? -1 : Buffer.compare(before.name(old), after.name(now))
    if (order <= 0) runs.old++
    if (order >= 0) runs.now++
    const [oldNode, nowNode] = [order <= 0 ? old : undefined, order >= 0 ? now : undefined]
    yield* changeOf(before, oldNode, after, nowNode)
    folders.push(runsOf(before, oldNode, after, nowNode))
  }
}

/** What of a folder's children in both trees is still to be looked at. */
interface Runs {
  old: number
  readonly oldEnd: number
  now: number
  readonly nowEnd: number
}

function runsOf(before: MergedTree, old: number | undefined, after: MergedTree, now: number | undefined): Runs {
  const of = (tree: MergedTree, node: number | undefined): [number, number] =>
    node === undefined ? [0, 0] : [tree.firstChild(node), tree.firstChild(node + 1)]
  const [[oldStart, oldEnd], [nowStart, nowEnd]] = [of(before, old), of(after, now)]
  return { old: oldStart, oldEnd, now: nowStart, nowEnd }
}

function* changeOf(
  before: MergedTree,
  old: number | undefined,
  after: MergedTree,
  now: number | undefined,
): Generator<Change> {
  if (old === undefined) yield { kind: 'added', after: now! }
  else if (now === undefined) yield { kind: 'removed', before: old }
  else {
    const aspects = compare(before, old, after, now)
    if (aspects === 'alike') yield { kind: 'alike', before: old, after: now }
    else if (aspects.length > 0) yield { kind: 'changed', before: old, after: now, aspects }
  }
}

function compare(before: MergedTree, oldNode: number, after: MergedTree, nowNode: number): readonly Aspect[] | 'alike' {
  const [old, now] = [before.inode(oldNode), after.inode(nowNode)]
  // A layer's index is loaded once, so that of one layer is one object.
  if (before.entry(old) === after.entry(now) && before.layers[before.layer(old)] === after.layers[after.layer(now)])
    return NONE
  const kind = after.kind(now)
  if (before.kind(old) !== kind) return ['type']
  const aspects: Aspect[] = []
  const differ = (aspect: Aspect, isDifferent: boolean): void => {
    if (isDifferent) aspects.push(aspect)
  }
  differ('size', before.size(old) !== after.size(now))
  if (kind !== KIND.directory)
    differ('mtime', before.mtime(old) !== after.mtime(now) || before.mtimeNanos(old) !== after.mtimeNanos(now))
  differ('mode', before.mode(old) !== after.mode(now))
  differ('owner', before.uid(old) !== after.uid(now) || before.gid(old) !== after.gid(now))
  if (kind === KIND.symlink) differ('target', !before.symlink(old).equals(after.symlink(now)))
  if (kind === KIND.char || kind === KIND.block)
    differ('device', before.major(old) !== after.major(now) || before.minor(old) !== after.minor(now))
  differ('xattrs', !sameXattrs(before, old, after, now))
  return aspects.length === 0 && kind === KIND.file && after.size(now) > 0 ? 'alike' : aspects
}

const NONE: readonly Aspect[] = []

function sameXattrs(before: MergedTree, old: number, after: MergedTree, now: number): boolean {
  const [a, b] = [before.xattrs(old), after.xattrs(now)]
  return a.length === b.length && a.every(([name, value], at) => name.equals(b[at]![0]) && value.equals(b[at]![1]))
}
