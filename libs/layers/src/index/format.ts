import { endianness } from 'node:os'
import { StrataError } from '@strata/base'
import type { EntryColumns, IndexColumns, IndexCounts, SparseColumns, XattrColumns } from './columns.js'
import { sharedFromRows } from './format-v1.js'

/**
 * The index as bytes, little-endian: a header of 64 bytes, then the columns, widest first so that
 * each is aligned, then the two arenas.
 *
 *     0 magic "strataIX"   8 u32 version   12 u32 entries   16 f64 size of the tar   24 u32 bytes of names
 *    28 u32 xattrs        32 u32 bytes of xattrs            36 u32 sparse ranges
 *    40 u32 owners        44 u32 sets      48 u32 members of sets                    52… zeros
 *
 * Version 1 has no sets: a row of its xattrs is an owner with a name and a value of its own, and
 * its header has zeros from byte 40 on. It is read still. An index without extended attributes is
 * the same in both but for the number, and is written as version 1: what older programs can read
 * they are given.
 */
const MAGIC = Buffer.from('strataIX', 'latin1')
const HEADER = 64

type Group = 'entries' | 'sparse' | 'owners' | 'sets' | 'members' | 'xattrs'
type ColumnType = Float64ArrayConstructor | Uint32ArrayConstructor | Uint16ArrayConstructor | Uint8ArrayConstructor
type Spec = readonly [rows: Group, field: string, type: ColumnType]

const WIDE: readonly Spec[] = [
  ['entries', 'mtime', Float64Array],
  ['entries', 'size', Float64Array],
  ['entries', 'value', Float64Array],
  ['sparse', 'offset', Float64Array],
  ['sparse', 'size', Float64Array],
  ['sparse', 'data', Float64Array],
  ['entries', 'parent', Uint32Array],
  ['entries', 'nameEnd', Uint32Array],
  ['entries', 'textEnd', Uint32Array],
  ['entries', 'uid', Uint32Array],
  ['entries', 'gid', Uint32Array],
  ['entries', 'nanos', Uint32Array],
]
const NARROW: readonly Spec[] = [
  ['sparse', 'owner', Uint32Array],
  ['entries', 'mode', Uint16Array],
  ['entries', 'kind', Uint8Array],
  ['entries', 'flags', Uint8Array],
]
const SPECS: Readonly<Record<1 | 2, readonly Spec[]>> = {
  1: [
    ...WIDE,
    ['xattrs', 'owner', Uint32Array],
    ['xattrs', 'nameEnd', Uint32Array],
    ['xattrs', 'valueEnd', Uint32Array],
    ...NARROW,
  ],
  2: [
    ...WIDE,
    ['owners', 'owner', Uint32Array],
    ['owners', 'set', Uint32Array],
    ['sets', 'setEnd', Uint32Array],
    ['members', 'members', Uint32Array],
    ['xattrs', 'nameEnd', Uint32Array],
    ['xattrs', 'valueEnd', Uint32Array],
    ...NARROW,
  ],
}

/** Bytes of an entry and of a sparse range in all their columns. */
export const ROW = { entries: rowOf('entries'), sparse: rowOf('sparse') }

function rowOf(group: Group): number {
  return SPECS[2].reduce((sum, [rows, , Type]) => sum + (rows === group ? Type.BYTES_PER_ELEMENT : 0), 0)
}

// The columns are used as they lie in memory; a big-endian machine would read them wrongly, so it
// does not get that far.
if (endianness() !== 'LE') throw new Error('layer indexes need a little-endian machine')

export function corrupt(why: string): StrataError {
  return new StrataError('corrupt', `the layer's index is not valid: ${why}`)
}

/** The columns of an index of which only the counts are known: all zeros, to be filled. */
export function emptyColumns(counts: IndexCounts, tarSize: number): IndexColumns {
  const version = counts.owners === 0 ? 1 : 2
  const out = Buffer.alloc(sizeOf(version, counts))
  MAGIC.copy(out)
  out.writeUInt32LE(version, 8)
  out.writeUInt32LE(counts.entries, 12)
  out.writeDoubleLE(tarSize, 16)
  out.writeUInt32LE(counts.names, 24)
  out.writeUInt32LE(counts.xattrs, 28)
  out.writeUInt32LE(counts.xattrBytes, 32)
  out.writeUInt32LE(counts.sparse, 36)
  out.writeUInt32LE(counts.owners, 40)
  out.writeUInt32LE(counts.sets, 44)
  out.writeUInt32LE(counts.members, 48)
  return viewsOf(version, out, counts)
}

/**
 * Views into `bytes` (a copy only where they are not aligned to 8). Lengths are checked here,
 * contents in validate.ts.
 */
export function decodeColumns(bytes: Uint8Array): IndexColumns {
  if (bytes.length < HEADER) throw corrupt('it is shorter than its header')
  // A Float64Array cannot begin at an odd address.
  const aligned = bytes.byteOffset % 8 === 0 ? bytes : new Uint8Array(bytes)
  const head = Buffer.from(aligned.buffer as ArrayBuffer, aligned.byteOffset, aligned.length)
  if (!head.subarray(0, 8).equals(MAGIC)) throw corrupt('it does not begin as one')
  const version = head.readUInt32LE(8)
  if (version !== 1 && version !== 2) throw corrupt(`it is of version ${version}, this program reads 1 and 2`)
  const counts: IndexCounts = {
    entries: head.readUInt32LE(12),
    names: head.readUInt32LE(24),
    xattrs: head.readUInt32LE(28),
    xattrBytes: head.readUInt32LE(32),
    sparse: head.readUInt32LE(36),
    owners: head.readUInt32LE(40),
    sets: head.readUInt32LE(44),
    members: head.readUInt32LE(48),
  }
  const total = sizeOf(version, counts)
  if (total !== head.length) throw corrupt(`its counts ask for ${total} bytes, it has ${head.length}`)
  if (head.subarray(version === 1 ? 40 : 52, HEADER).some((byte) => byte !== 0))
    throw corrupt('its header has bytes that must be zero')
  if (version === 2 && counts.owners === 0) throw corrupt('it is of version 2 and has no extended attributes')
  return viewsOf(version, head, counts)
}

function sizeOf(version: 1 | 2, counts: IndexCounts): number {
  return SPECS[version].reduce(
    (sum, [rows, , Type]) => sum + counts[rows] * Type.BYTES_PER_ELEMENT,
    HEADER + counts.names + counts.xattrBytes,
  )
}

function viewsOf(version: 1 | 2, encoded: Buffer<ArrayBuffer>, counts: IndexCounts): IndexColumns {
  let at = HEADER
  const views = new Map<string, ArrayBufferView>()
  for (const [rows, field, Type] of SPECS[version]) {
    const length = counts[rows]
    views.set(`${rows} ${field}`, new Type(encoded.buffer, encoded.byteOffset + at, length))
    at += length * Type.BYTES_PER_ELEMENT
  }
  const names = encoded.subarray(at, at + counts.names)
  const bytes = encoded.subarray(at + counts.names, at + counts.names + counts.xattrBytes)
  const group = (...all: readonly Group[]): unknown =>
    Object.fromEntries(
      [...views].flatMap(([key, view]) => {
        const [rows, field] = key.split(' ') as [Group, string]
        return all.includes(rows) ? [[field, view] as const] : []
      }),
    )
  const rows = { ...(group('owners', 'sets', 'members', 'xattrs') as XattrColumns), bytes }
  return {
    tarSize: encoded.readDoubleLE(16),
    names,
    entries: group('entries') as EntryColumns,
    sparse: group('sparse') as SparseColumns,
    xattrs: version === 1 ? sharedFromRows(rows) : rows,
    encoded,
  }
}
