import { compareBytes, copyBytes, release, type Column } from './bytes.js'
import type { EntryColumns, IndexColumns, IndexCounts } from './columns.js'
import { emptyColumns } from './format.js'
import type { InodeStore } from './inode-store.js'
import { FLAG, KIND } from '../kind.js'
import { LayerIndex } from './layer-index.js'
import { invalid, quoted } from './layer-path.js'
import { NONE, type PlaceTable } from './place-table.js'
import type { XattrStore } from './xattr-store.js'

/**
 * The gathered places and inodes as an index: what went away left out, hard links settled,
 * everything in the one order an index has. Takes the tables' memory as it goes: they are of no
 * more use.
 */
export function arrange(places: PlaceTable, inodes: InodeStore, tarSize: number): LayerIndex {
  const target = settleLinks(places, inodes)
  places.endOfSearch()
  const order = breadthFirst(places)
  places.endOfFolders()
  return new LayerIndex(emit(places, inodes, target, order, tarSize))
}

/**
 * For each inode the one it stands for: itself, or, for a link that came before its target, that.
 */
function settleLinks(places: PlaceTable, inodes: InodeStore): Uint32Array<ArrayBuffer> {
  const target = new Uint32Array(inodes.count)
  for (let inode = 0; inode < target.length; inode++) target[inode] = inode
  const { kind } = inodes
  /** The walk that came by, so that a chain is walked once however many links lead into it. */
  const walk = new Uint32Array(inodes.count)
  for (
    let first = kind.indexOf(KIND.lowerLink);
    first >= 0 && first < inodes.count;
    first = kind.indexOf(KIND.lowerLink, first + 1)
  ) {
    const chain: number[] = []
    let at = first
    while (kind[at] === KIND.lowerLink && walk[at] === 0) {
      walk[at] = first + 1
      chain.push(at)
      const next = inodeAt(places, inodes.text(at))
      if (next === NONE) break
      if (kind[next] === KIND.directory)
        throw invalid(`a hard link names ${quoted(inodes.text(at))}, which is a directory`)
      if (walk[next] === first + 1)
        throw invalid(`the hard link to ${quoted(inodes.text(first))} ends at itself: nothing in its chain is a file`)
      at = next
    }
    const end = target[at]!
    for (const link of chain) target[link] = end
  }
  release(walk)
  return target
}

function inodeAt(places: PlaceTable, path: Buffer): number {
  let folder = 0
  let place = 0
  for (let start = 0; start < path.length;) {
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
  readonly places: Uint32Array<ArrayBuffer>
  readonly parents: Uint32Array<ArrayBuffer>
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
  for (let place = 1; place < places.count; place++)
    if (live[place] === 1) children[next[places.folderAbove[place]!]!++] = place
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
  release(live, childrenOf, next, children)
  return order
}

function sortByName(places: PlaceTable, run: Uint32Array): void {
  const { nameStart } = places
  const bytes = places.names.bytes
  const compare = (a: number, b: number): number =>
    compareBytes(bytes, nameStart[a]!, places.nameEnd(a), bytes, nameStart[b]!, places.nameEnd(b))
  // Tars of directories are often sorted already.
  for (let index = 1; index < run.length; index++) {
    if (compare(run[index - 1]!, run[index]!) > 0) {
      run.sort(compare)
      return
    }
  }
}

/**
 * Each entry's inode (NONE for a whiteout), and each inode's first entry: the others are links to
 * that.
 */
interface Sharing {
  readonly inodeOf: Uint32Array<ArrayBuffer>
  readonly firstEntry: Uint32Array<ArrayBuffer>
}

function emit(
  places: PlaceTable,
  inodes: InodeStore,
  target: Uint32Array<ArrayBuffer>,
  order: Order,
  tarSize: number,
): IndexColumns {
  const count = order.places.length
  const sharing: Sharing = { inodeOf: new Uint32Array(count), firstEntry: new Uint32Array(inodes.count).fill(NONE) }
  const used = new UsedXattrs(inodes.xattrs)
  const columns = emptyColumns(countAll(places, inodes, target, order, sharing, used), tarSize)
  release(target, places.inode)
  const { inodeOf, firstEntry } = sharing
  /**
   * A field of each entry that is no whiteout and no link. Its source is not needed any more: so
   * both are in memory for one column only.
   */
  const gather = (into: Column, from: Column): void => {
    for (let entry = 0; entry < count; entry++) {
      const inode = inodeOf[entry]!
      if (inode !== NONE && firstEntry[inode] === entry) into[entry] = from[inode]!
    }
    release(from)
  }
  const entries = columns.entries as Record<keyof EntryColumns, Column>
  for (const field of ['mtime', 'size', 'value', 'uid', 'gid', 'nanos', 'mode', 'kind', 'flags'] as const)
    gather(entries[field], inodes[field])
  columns.entries.parent.set(order.parents)
  release(order.parents)
  for (let entry = 0; entry < count; entry++) {
    const inode = inodeOf[entry]!
    if (inode === NONE) columns.entries.kind[entry] = KIND.whiteout
    else if (firstEntry[inode] !== entry) {
      columns.entries.kind[entry] = KIND.link
      columns.entries.value[entry] = firstEntry[inode]!
    }
  }
  release(firstEntry)
  used.write(columns.xattrs)
  const rows = new Rows(columns, inodes, used)
  for (let entry = 0; entry < count; entry++) {
    const place = order.places[entry]!
    rows.name(entry, places.names.bytes, places.nameStart[place]!, places.nameEnd(place))
    const inode = inodeOf[entry]!
    if (inode !== NONE && columns.entries.kind[entry] !== KIND.link) rows.inode(entry, inode, places.flags[place]!)
  }
  places.release()
  return columns
}

/** What the index will have of everything; fills in who shares what. */
function countAll(
  places: PlaceTable,
  inodes: InodeStore,
  target: Uint32Array,
  order: Order,
  { inodeOf, firstEntry }: Sharing,
  used: UsedXattrs,
): IndexCounts {
  const count = order.places.length
  let [names, owners, sparse] = [0, 0, 0]
  for (let entry = 0; entry < count; entry++) {
    const place = order.places[entry]!
    names += places.nameEnd(place) - places.nameStart[place]!
    const inode = (inodeOf[entry] = inodeAtPlace(places, inodes, target, place))
    if (inode === NONE) continue
    if (firstEntry[inode] !== NONE) continue
    firstEntry[inode] = entry
    names += inodes.textEnd(inode) - inodes.textStart[inode]!
    const set = inodes.xattrSet.get(inode)
    if (set !== undefined) {
      used.add(set)
      owners++
    }
    sparse += (inodes.sparse.get(inode) ?? NO_PIECES).length / 3
  }
  return { entries: count, names, owners, ...used.counts, sparse }
}

/**
 * The inode that an entry is a name of; NONE for a whiteout. The character device 0:0 is one, under
 * each of its names: what overlayfs hides under it, every driver hides.
 */
function inodeAtPlace(places: PlaceTable, inodes: InodeStore, target: Uint32Array, place: number): number {
  const own = places.inode[place]!
  const inode = own === NONE ? NONE : target[own]!
  return inode !== NONE && inodes.kind[inode] === KIND.char && inodes.value[inode] === 0 ? NONE : inode
}

/**
 * Of the sets and attributes that the tar has, those that the index keeps: a later entry of the
 * same name may have replaced the only owner.
 */
class UsedXattrs {
  /** By number in the index: the set, or attribute, of the store. */
  readonly #sets: number[] = []
  readonly #attributes: number[] = []
  /** The way back; NONE for what is not used. */
  readonly #setNumber: Uint32Array
  readonly #attributeNumber: Uint32Array
  #members = 0
  #bytes = 0

  constructor(private readonly store: XattrStore) {
    this.#setNumber = new Uint32Array(store.setCount).fill(NONE)
    this.#attributeNumber = new Uint32Array(store.nameEnd.length).fill(NONE)
  }

  /** To be called for the owners in the index's order. */
  add(set: number): void {
    if (this.#setNumber[set] !== NONE) return
    this.#setNumber[set] = this.#sets.push(set) - 1
    for (const attribute of this.store.membersOf(set)) {
      this.#members++
      if (this.#attributeNumber[attribute] !== NONE) continue
      this.#attributeNumber[attribute] = this.#attributes.push(attribute) - 1
      this.#bytes += this.store.valueEnd[attribute]! - this.store.start(attribute)
    }
  }

  get counts(): Pick<IndexCounts, 'sets' | 'members' | 'xattrs' | 'xattrBytes'> {
    return { sets: this.#sets.length, members: this.#members, xattrs: this.#attributes.length, xattrBytes: this.#bytes }
  }

  /** The set's number in the index. */
  numberOf(set: number): number {
    return this.#setNumber[set]!
  }

  write(columns: IndexColumns['xattrs']): void {
    const { store } = this
    let member = 0
    for (const [number, set] of this.#sets.entries()) {
      for (const attribute of store.membersOf(set)) columns.members[member++] = this.#attributeNumber[attribute]!
      columns.setEnd[number] = member
    }
    let end = 0
    for (const [number, attribute] of this.#attributes.entries()) {
      const [start, nameEnd, valueEnd] = [store.start(attribute), store.nameEnd[attribute]!, store.valueEnd[attribute]!]
      columns.bytes.set(store.bytes.bytes.subarray(start, valueEnd), end)
      columns.nameEnd[number] = end + nameEnd - start
      columns.valueEnd[number] = end += valueEnd - start
    }
    release(store.bytes.bytes)
  }
}

const NO_PIECES = new Float64Array(0)

/** Writes what is no column of the inodes: names, texts, extended attributes, sparse pieces. */
class Rows {
  #textEnd = 0
  #owner = 0
  #sparse = 0

  constructor(
    private readonly columns: IndexColumns,
    private readonly inodes: InodeStore,
    private readonly used: UsedXattrs,
  ) {}

  name(entry: number, bytes: Uint8Array, start: number, end: number): void {
    const { names, entries } = this.columns
    copyBytes(names, this.#textEnd, bytes, start, end)
    this.#textEnd += end - start
    entries.nameEnd[entry] = entries.textEnd[entry] = this.#textEnd
  }

  inode(entry: number, inode: number, placeFlags: number): void {
    const { names, entries, xattrs, sparse } = this.columns
    const { inodes } = this
    if (entries.kind[entry] === KIND.directory) entries.flags[entry]! |= placeFlags
    const [start, end] = [inodes.textStart[inode]!, inodes.textEnd(inode)]
    copyBytes(names, this.#textEnd, inodes.texts.bytes, start, end)
    entries.textEnd[entry] = this.#textEnd += end - start
    const set = inodes.xattrSet.get(inode)
    if (set !== undefined) {
      const row = this.#owner++
      xattrs.owner[row] = entry
      xattrs.set[row] = this.used.numberOf(set)
    }
    const isSparse = (entries.flags[entry]! & FLAG.sparse) !== 0
    let dataEnd =
      entries.kind[entry] === KIND.file && !isSparse && entries.size[entry]! > 0
        ? entries.value[entry]! + entries.size[entry]!
        : 0
    const pieces = inodes.sparse.get(inode) ?? NO_PIECES
    for (let at = 0; at < pieces.length; at += 3) {
      const row = this.#sparse++
      const [offset, size, data] = pieces.subarray(at, at + 3) as unknown as [number, number, number]
      sparse.owner[row] = entry
      sparse.offset[row] = offset
      sparse.size[row] = size
      sparse.data[row] = data
      dataEnd = Math.max(dataEnd, data + size)
    }
    this.#checkData(entry, dataEnd)
  }

  #checkData(entry: number, end: number): void {
    const { names, entries, tarSize } = this.columns
    if (end <= tarSize) return
    const name = names.subarray(entry === 0 ? 0 : entries.textEnd[entry - 1], entries.nameEnd[entry])
    throw invalid(`the data of ${quoted(name)} are said to end at byte ${end} of a tar of ${tarSize}`)
  }
}
