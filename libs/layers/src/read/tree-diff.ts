import { KIND } from '../kind.js'
import { namesOf, type MergedTree } from '../merge/merged-tree.js'

/** What two trees may differ in at one path. */
type Aspect = 'type' | 'size' | 'mtime' | 'mode' | 'owner' | 'target' | 'device' | 'xattrs'

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

/** One path of either tree, and how it differs. */
export type Compared = Change | { readonly kind: 'same' }

/**
 * Compares two trees, and yields one step for each path of either: a folder before what lies in it,
 * names in the order of their bytes. The changes among the steps are what makes `after` of
 * `before`.
 *
 * The bytes of files are not read. What comes from one place of one layer is the same. Of
 * everything else the attributes are compared, and a time counts for what the bytes are. A folder's
 * time tells nothing that its contents do not, and is left out.
 *
 * @param behind Only the steps behind this path, which need not exist. They are found by binary
 *   search, so that the work does not depend on where the path is.
 */
export function* diffTrees(before: MergedTree, after: MergedTree, behind?: Uint8Array): Generator<Compared> {
  if (behind === undefined) yield stepOf(before, 0, after, 0)
  // Not by recursion: a path may be a thousand folders deep.
  const folders = behind === undefined ? [runsOf(before, 0, after, 0)] : runsBehind(before, after, behind)
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
    yield stepOf(before, oldNode, after, nowNode)
    folders.push(runsOf(before, oldNode, after, nowNode))
  }
}

/** What is left of the walk when the path and everything before it were looked at. */
function runsBehind(before: MergedTree, after: MergedTree, path: Uint8Array): Runs[] {
  const folders = [runsOf(before, 0, after, 0)]
  for (const name of namesOf(path)) {
    const runs = folders.at(-1)!
    runs.old = before.seek(runs.old, runs.oldEnd, name)
    runs.now = after.seek(runs.now, runs.nowEnd, name)
    const old = runs.old < runs.oldEnd && before.name(runs.old).equals(name) ? runs.old++ : undefined
    const now = runs.now < runs.nowEnd && after.name(runs.now).equals(name) ? runs.now++ : undefined
    if (old === undefined && now === undefined) break
    folders.push(runsOf(before, old, after, now))
  }
  return folders
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

function stepOf(before: MergedTree, old: number | undefined, after: MergedTree, now: number | undefined): Compared {
  if (old === undefined) return { kind: 'added', after: now! }
  if (now === undefined) return { kind: 'removed', before: old }
  const aspects = compare(before, old, after, now)
  if (aspects === 'alike') return { kind: 'alike', before: old, after: now }
  return aspects.length > 0 ? { kind: 'changed', before: old, after: now, aspects } : SAME
}

const SAME: Compared = { kind: 'same' }

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
