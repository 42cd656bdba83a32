import { endianness } from 'node:os'
import { StrataError } from '@strata/oci'
import type { IndexColumns, IndexCounts } from './columns.js'

/**
 * The index as bytes, little-endian: a header of 64 bytes, then the columns, widest first so that each is aligned, then the two arenas.
 *
 *     0 magic "strataIX"   8 u32 version   12 u32 entries   16 f64 size of the tar   24 u32 bytes of names
 *    28 u32 xattrs        32 u32 bytes of xattrs            36 u32 sparse ranges     40… zeros
 */
const MAGIC = Buffer.from('strataIX', 'latin1')
const VERSION = 1
const HEADER = 64

const SPECS = [
  ['entries', 'mtime', Float64Array], ['entries', 'size', Float64Array], ['entries', 'value', Float64Array],
  ['sparse', 'offset', Float64Array], ['sparse', 'size', Float64Array], ['sparse', 'data', Float64Array],
  ['entries', 'parent', Uint32Array], ['entries', 'nameEnd', Uint32Array], ['entries', 'textEnd', Uint32Array],
  ['entries', 'uid', Uint32Array], ['entries', 'gid', Uint32Array], ['entries', 'nanos', Uint32Array],
  ['xattrs', 'owner', Uint32Array], ['xattrs', 'nameEnd', Uint32Array], ['xattrs', 'valueEnd', Uint32Array], ['sparse', 'owner', Uint32Array],
  ['entries', 'mode', Uint16Array], ['entries', 'kind', Uint8Array], ['entries', 'flags', Uint8Array],
] as const

/** Bytes of an entry, an xattr row and a sparse row in all their columns. */
const ROW = { entries: 0, xattrs: 0, sparse: 0 }
for (const [group, , Type] of SPECS) ROW[group] += Type.BYTES_PER_ELEMENT

// The columns are used as they lie in memory; a big-endian machine would read them wrongly, so it does not get that far.
if (endianness() !== 'LE') throw new Error('layer indexes need a little-endian machine')

export function corrupt(why: string): StrataError {
  return new StrataError('corrupt', `the layer's index is not valid: ${why}`)
}

/** The columns of an index of which only the counts are known: all zeros, to be filled. */
export function emptyColumns(counts: IndexCounts, tarSize: number): IndexColumns {
  const out = Buffer.alloc(sizeOf(counts))
  MAGIC.copy(out)
  out.writeUInt32LE(VERSION, 8)
  out.writeUInt32LE(counts.entries, 12)
  out.writeDoubleLE(tarSize, 16)
  out.writeUInt32LE(counts.names, 24)
  out.writeUInt32LE(counts.xattrs, 28)
  out.writeUInt32LE(counts.xattrBytes, 32)
  out.writeUInt32LE(counts.sparse, 36)
  return viewsOf(out, counts)
}

/** Views into `bytes` (a copy only where they are not aligned to 8). Lengths are checked here, contents in validate.ts. */
export function decodeColumns(bytes: Uint8Array): IndexColumns {
  if (bytes.length < HEADER) throw corrupt('it is shorter than its header')
  // A Float64Array cannot begin at an odd address.
  const aligned = bytes.byteOffset % 8 === 0 ? bytes : new Uint8Array(bytes)
  const head = Buffer.from(aligned.buffer as ArrayBuffer, aligned.byteOffset, aligned.length)
  if (!head.subarray(0, 8).equals(MAGIC)) throw corrupt('it does not begin as one')
  const version = head.readUInt32LE(8)
  if (version !== VERSION) throw corrupt(`it is of version ${version}, this program reads ${VERSION}`)
  const counts = { entries: head.readUInt32LE(12), names: head.readUInt32LE(24), xattrs: head.readUInt32LE(28), xattrBytes: head.readUInt32LE(32), sparse: head.readUInt32LE(36) }
  const total = sizeOf(counts)
  if (total !== head.length) throw corrupt(`its counts ask for ${total} bytes, it has ${head.length}`)
  if (head.subarray(40, HEADER).some((byte) => byte !== 0)) throw corrupt('its header has bytes that must be zero')
  return viewsOf(head, counts)
}

function sizeOf({ entries, names, xattrs, xattrBytes, sparse }: IndexCounts): number {
  return HEADER + entries * ROW.entries + xattrs * ROW.xattrs + sparse * ROW.sparse + names + xattrBytes
}

function viewsOf(encoded: Buffer<ArrayBuffer>, counts: IndexCounts): IndexColumns {
  let at = HEADER
  const groups: Record<string, Record<string, ArrayBufferView>> = { entries: {}, xattrs: {}, sparse: {} }
  for (const [group, field, Type] of SPECS) {
    const length = counts[group]
    groups[group]![field] = new Type(encoded.buffer, encoded.byteOffset + at, length)
    at += length * Type.BYTES_PER_ELEMENT
  }
  const names = encoded.subarray(at, at + counts.names)
  const bytes = encoded.subarray(at + counts.names, at + counts.names + counts.xattrBytes)
  return { tarSize: encoded.readDoubleLE(16), names, ...groups, xattrs: { ...groups['xattrs'], bytes }, encoded } as unknown as IndexColumns
}
