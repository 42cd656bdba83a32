import { compareBytes } from './bytes.js'
import type { EntryColumns, IndexColumns } from './columns.js'
import type { InodeStore } from './inode-store.js'
import { FLAG, KIND } from './kind.js'
import { LayerIndex } from './layer-index.js'
import { invalid, quoted } from './layer-path.js'
import { ByteArena, NONE, type PlaceTable } from './place-table.js'

/** The gathered places and inodes as an index: what went away left out, hard links settled, everything in the one order an index has. */
export function arrange(places: PlaceTable, inodes: InodeStore, tarSize: number): LayerIndex {
  const target = settleLinks(places, inodes)
  const order = breadthFirst(places)
  return new LayerIndex(emit(places, inodes, target, order, tarSize))
}

/** For each inode the one it stands for: itself, or, for a link that came before its target, that. */
function settleLinks(places: PlaceTable, inodes: InodeStore): Uint32Array {
  const target = new Uint32Array(inodes.count)
  for (let inode = 0; inode < target.length; inode++) target[inode] = inode
  const { kind } = inodes
  /** The walk that came by, so that a chain is walked once however many links lead into it. */
  const walk = new Uint32Array(inodes.count)
  for (let first = kind.indexOf(KIND.lowerLink); first >= 0 && first < inodes.count; first = kind.indexOf(KIND.lowerLink, first + 1)) {
    const chain: number[] = []
    let at = first
    while (kind[at] === KIND.lowerLink && walk[at] === 0) {
      walk[at] = first + 1
      chain.push(at)
      const next = inodeAt(places, inodes.text(at))
      if (next === NONE) break
      if (kind[next] === KIND.directory) throw invalid(`a hard link names ${quoted(inodes.text(at))}, which is a directory`)
      if (walk[next] === first + 1) throw invalid(`the hard link to ${quoted(inodes.text(first))} ends at itself: nothing in its chain is a file`)
      at = next
    }
    const end = target[at]!
    for (const link of chain) target[link] = end
  }
  return target
}

function inodeAt(places: PlaceTable, path: Buffer): number {
  let folder = 0
  let place = 0
  for (let start = 0; start < path.length; ) {
    let end = path.indexOf(0x2f, start)
    if (end < 0) end = path.length
    place = folder === NONE ? NONE : places.find(folder, path, start, end)
    if (place === NONE) return NONE
    folder = places.folder[place]!
    start = end + 1
  }
  return places.inode[place]!
}

interface Order {
  /** Places that count, in the index's order. */
  readonly places: Uint32Array
  readonly parents: Uint32Array
}

function breadthFirst(places: PlaceTable): Order {
  // A place is made after the place of its folder, so one pass tells which are still reached.
  const live = new Uint8Array(places.count)
  const childrenOf = new Uint32Array(places.folders + 1)
  live[0] = 1
  let count = 1
  for (let place = 1; place < places.count; place++) {
    const above = places.folderAbove[place]!
    const owner = places.folderPlace[above]!
    const holdsSomething = places.inode[place] !== NONE || (places.flags[place]! & FLAG.whiteout) !== 0
    if (!holdsSomething || live[owner] === 0 || places.folder[owner] !== above) continue
    live[place] = 1
    childrenOf[above + 1]!++
    count++
  }
  for (let folder = 0; folder < places.folders; folder++) childrenOf[folder + 1]! += childrenOf[folder]!
  const children = new Uint32Array(count - 1)
  const next = childrenOf.slice()
  for (let place = 1; place < places.count; place++) if (live[place] === 1) children[next[places.folderAbove[place]!]!++] = place
  const order = { places: new Uint32Array(count), parents: new Uint32Array(count) }
  let end = 1
  for (let entry = 0; entry < end; entry++) {
    const folder = places.folder[order.places[entry]!]!
    if (folder === NONE) continue
    const run = children.subarray(childrenOf[folder], childrenOf[folder + 1])
    sortByName(places, run)
    order.places.set(run, end)
    order.parents.fill(entry, end, end + run.length)
    end += run.length
  }
  return order
}

function sortByName(places: PlaceTable, run: Uint32Array): void {
  const { nameStart, nameEnd } = places
  const bytes = places.names.bytes
  const compare = (a: number, b: number): number => compareBytes(bytes, nameStart[a]!, nameEnd[a]!, bytes, nameStart[b]!, nameEnd[b]!)
  // Tars of directories are often sorted already.
  for (let index = 1; index < run.length; index++) {
    if (compare(run[index - 1]!, run[index]!) > 0) {
      run.sort(compare)
      return
    }
  }
}

function emit(places: PlaceTable, inodes: InodeStore, target: Uint32Array, order: Order, tarSize: number): IndexColumns {
  const count = order.places.length
  const entries: EntryColumns = {
    mtime: new Float64Array(count), size: new Float64Array(count), value: new Float64Array(count), parent: order.parents,
    nameEnd: new Uint32Array(count), textEnd: new Uint32Array(count), uid: new Uint32Array(count), gid: new Uint32Array(count), nanos: new Uint32Array(count),
    mode: new Uint16Array(count), kind: new Uint8Array(count), flags: new Uint8Array(count),
  }
  const names = new ByteArena()
  const xattrs = new XattrRows()
  const sparse = new SparseRows()
  const firstEntry = new Uint32Array(inodes.count).fill(NONE)
  for (let entry = 0; entry < count; entry++) {
    const place = order.places[entry]!
    names.append(places.names.bytes, places.nameStart[place], places.nameEnd[place])
    entries.nameEnd[entry] = entries.textEnd[entry] = names.end
    if (places.inode[place] === NONE) {
      entries.kind[entry] = KIND.whiteout
      continue
    }
    const inode = target[places.inode[place]!]!
    if (firstEntry[inode] !== NONE) {
      entries.kind[entry] = KIND.link
      entries.value[entry] = firstEntry[inode]!
      continue
    }
    firstEntry[inode] = entry
    const kind = (entries.kind[entry] = inodes.kind[inode]!)
    entries.flags[entry] = inodes.flags[inode]! | (kind === KIND.directory ? places.flags[place]! : 0)
    entries.mode[entry] = inodes.mode[inode]!
    entries.uid[entry] = inodes.uid[inode]!
    entries.gid[entry] = inodes.gid[inode]!
    entries.mtime[entry] = inodes.mtime[inode]!
    entries.nanos[entry] = inodes.nanos[inode]!
    entries.size[entry] = inodes.size[inode]!
    entries.value[entry] = inodes.value[inode]!
    if (inodes.textEnd[inode] !== inodes.textStart[inode]) {
      names.append(inodes.texts.bytes, inodes.textStart[inode], inodes.textEnd[inode])
      entries.textEnd[entry] = names.end
    }
    const flags = entries.flags[entry]!
    if ((flags & FLAG.xattrs) !== 0) for (const [name, value] of inodes.xattrs.get(inode)!) xattrs.add(entry, name, value)
    const pieces = (flags & FLAG.sparse) !== 0 ? inodes.sparse.get(inode)! : undefined
    if (pieces) sparse.add(entry, pieces)
    checkData(entries, entry, pieces, names, tarSize)
  }
  return { tarSize, entries, names: Buffer.from(names.bytes.subarray(0, names.end)), xattrs: xattrs.columns(), sparse: sparse.columns() }
}

function checkData(entries: EntryColumns, entry: number, pieces: Float64Array | undefined, names: ByteArena, tarSize: number): void {
  let end = entries.kind[entry] === KIND.file && pieces === undefined && entries.size[entry]! > 0 ? entries.value[entry]! + entries.size[entry]! : 0
  for (let at = 0; pieces && at < pieces.length; at += 3) end = Math.max(end, pieces[at + 2]! + pieces[at + 1]!)
  if (end <= tarSize) return
  const name = names.bytes.subarray(entry === 0 ? 0 : entries.textEnd[entry - 1], entries.nameEnd[entry])
  throw invalid(`the data of ${quoted(name)} are said to end at byte ${end} of a tar of ${tarSize}`)
}

class XattrRows {
  readonly #owner: number[] = []
  readonly #nameEnd: number[] = []
  readonly #valueEnd: number[] = []
  readonly #bytes = new ByteArena()

  add(entry: number, name: Buffer, value: Buffer): void {
    this.#owner.push(entry)
    this.#bytes.append(name)
    this.#nameEnd.push(this.#bytes.end)
    this.#bytes.append(value)
    this.#valueEnd.push(this.#bytes.end)
  }

  columns(): IndexColumns['xattrs'] {
    const bytes = Buffer.from(this.#bytes.bytes.subarray(0, this.#bytes.end))
    return { owner: Uint32Array.from(this.#owner), nameEnd: Uint32Array.from(this.#nameEnd), valueEnd: Uint32Array.from(this.#valueEnd), bytes }
  }
}

class SparseRows {
  readonly #rows: { entry: number; pieces: Float64Array }[] = []

  add(entry: number, pieces: Float64Array): void {
    this.#rows.push({ entry, pieces })
  }

  columns(): IndexColumns['sparse'] {
    const owner: number[] = []
    const [offset, size, data]: [number[], number[], number[]] = [[], [], []]
    for (const { entry, pieces } of this.#rows) {
      for (let at = 0; at < pieces.length; at += 3) {
        // A piece of no bytes, which GNU tar writes to mark a hole at the end, says nothing.
        if (pieces[at + 1] === 0) continue
        owner.push(entry)
        offset.push(pieces[at]!)
        size.push(pieces[at + 1]!)
        data.push(pieces[at + 2]!)
      }
    }
    return { offset: Float64Array.from(offset), size: Float64Array.from(size), data: Float64Array.from(data), owner: Uint32Array.from(owner) }
  }
}
