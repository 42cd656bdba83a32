import { isUtf8 } from 'node:buffer'
import { ENTRY, type EntryType, type Xattr } from './tar-entry.js'
import { BLOCK } from './tar-header.js'
import { zerosAfter } from './tar-write.js'

/**
 * An entry as it is to be written. A folder's path ends in a slash; names are bytes and stay as
 * they are.
 */
export interface WrittenEntry {
  readonly path: Buffer
  readonly type: EntryType
  readonly link?: Buffer
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Bytes of a file as it is read: of a sparse one with its holes. */
  readonly size: number
  readonly mtime: number
  readonly mtimeNanos: number
  readonly devMajor?: number
  readonly devMinor?: number
  readonly xattrs?: readonly Xattr[]
  /** Of a sparse file: what holds data, in order. */
  readonly sparse?: readonly { readonly offset: number; readonly size: number }[] | undefined
}

/**
 * All that stands before an entry's data: a ustar header, before it a pax header where that cannot
 * hold something (POSIX.1-2024, pax), and behind it a sparse file's map (GNU tar's PAX 1.0). After
 * it come the data, of a sparse file those of its pieces, and `zerosAfter` them. The same entry has
 * the same bytes always.
 */
export function writeEntry(entry: WrittenEntry): Buffer {
  const { sparse } = entry
  const map = sparse && sparseMap(sparse, entry.size)
  const stored = sparse
    ? sparse.reduce((sum, { size }) => sum + size, map!.length)
    : entry.type === ENTRY.file
      ? entry.size
      : 0
  const records = paxRecords(entry, stored)
  const name = sparse ? Buffer.from('GNUSparseFile.0') : entry.path
  const header = ustarHeader({ ...entry, path: name, size: stored, flag: 0x30 + TYPE_DIGIT[entry.type] })
  if (records.length === 0 && !map) return header
  const pax =
    records.length === 0
      ? []
      : [ustarHeader({ ...PAX_HEADER, size: records.length }), records, zerosAfter(records.length)]
  return Buffer.concat([...pax, header, ...(map ? [map] : [])])
}

const TYPE_DIGIT: Readonly<Record<EntryType, number>> = {
  [ENTRY.file]: 0,
  [ENTRY.hardlink]: 1,
  [ENTRY.symlink]: 2,
  [ENTRY.char]: 3,
  [ENTRY.block]: 4,
  [ENTRY.directory]: 5,
  [ENTRY.fifo]: 6,
}
const NO_LINK = Buffer.alloc(0)
const PAX_HEADER = {
  path: Buffer.from('PaxHeaders/entry'),
  link: NO_LINK,
  flag: 0x78,
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtime: 0,
} as const
const MAX_NAME = 100
const MAX_ID = 8 ** 7 - 1
const MAX_OCTAL = 8 ** 11 - 1

function paxRecords(entry: WrittenEntry, stored: number): Buffer {
  const { path, link = NO_LINK, uid, gid, mtime, mtimeNanos, xattrs = [], sparse } = entry
  const records: Buffer[] = []
  const add = (key: string, value: Buffer | string): void =>
    void records.push(paxRecord(Buffer.from(key, 'latin1'), Buffer.from(value)))
  const isLongPath = path.length > MAX_NAME
  const isLongLink = link.length > MAX_NAME
  // pax names are UTF-8 unless the header says that it holds bytes.
  if (((isLongPath || sparse) && !isUtf8(path)) || (isLongLink && !isUtf8(link))) add('hdrcharset', 'BINARY')
  if (sparse) {
    add('GNU.sparse.major', '1')
    add('GNU.sparse.minor', '0')
    add('GNU.sparse.name', path)
    add('GNU.sparse.realsize', `${entry.size}`)
  } else if (isLongPath) add('path', path)
  if (isLongLink) add('linkpath', link)
  if (stored > MAX_OCTAL) add('size', `${stored}`)
  if (uid > MAX_ID) add('uid', `${uid}`)
  if (gid > MAX_ID) add('gid', `${gid}`)
  if (mtimeNanos !== 0 || mtime < 0 || mtime > MAX_OCTAL) add('mtime', timeText(mtime, mtimeNanos))
  for (const [name, value] of xattrs) {
    // A key ends at its first `=`, so a name that has one is written in libarchive's way.
    if (name.includes(0x3d))
      add(`LIBARCHIVE.xattr.${percentEncoded(name)}`, value.toString('base64').replace(/=+$/, ''))
    else add(`SCHILY.xattr.${name.toString('latin1')}`, value)
  }
  return records.length === 0 ? NO_RECORDS : Buffer.concat(records)
}
const NO_RECORDS = Buffer.alloc(0)

/** `<length> <key>=<value>\n`; the length counts itself. */
function paxRecord(key: Buffer, value: Buffer): Buffer {
  const rest = key.length + value.length + 3
  let length = rest + `${rest}`.length
  if (`${length}`.length !== `${rest}`.length) length = rest + `${length}`.length
  return Buffer.concat([Buffer.from(`${length} `), key, EQUALS, value, NEWLINE])
}
const EQUALS = Buffer.from('=')
const NEWLINE = Buffer.from('\n')

/** Nanoseconds count forward: second -2 and 750,000,000 ns is `-1.25`. */
function timeText(seconds: number, nanos: number): string {
  const isBelow = seconds < 0 && nanos > 0
  const whole = isBelow ? seconds + 1 : seconds
  const part = isBelow ? 1_000_000_000 - nanos : nanos
  const sign = isBelow && whole === 0 ? '-' : ''
  return `${sign}${whole}${part === 0 ? '' : `.${`${part}`.padStart(9, '0').replace(/0+$/, '')}`}`
}

function percentEncoded(name: Buffer): string {
  return name
    .toString('latin1')
    .replace(/[^!-~]|[%=]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`)
}

/**
 * A number a line: how many pieces, then where each begins and its size; whole blocks. GNU tar
 * knows of a hole at the end by a last piece of nothing.
 */
function sparseMap(pieces: readonly { readonly offset: number; readonly size: number }[], size: number): Buffer {
  const last = pieces.at(-1)
  const all = last && last.offset + last.size === size ? pieces : [...pieces, { offset: size, size: 0 }]
  const text = Buffer.from(
    [all.length, ...all.flatMap(({ offset, size }) => [offset, size])].map((number) => `${number}\n`).join(''),
  )
  return Buffer.concat([text, zerosAfter(text.length)])
}

interface UstarFields {
  readonly path: Buffer
  readonly link?: Buffer
  readonly flag: number
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly size: number
  readonly mtime: number
  readonly devMajor?: number
  readonly devMinor?: number
}

/** What does not fit is cut, or 0: a pax header says it. */
function ustarHeader(fields: UstarFields): Buffer {
  // Of the pool: a million headers are not to be a million allocations outside of it.
  const block = Buffer.allocUnsafe(BLOCK).fill(0)
  const octal = (value: number, at: number, digits: number): void =>
    void block.write(value.toString(8).padStart(digits, '0'), at, 'latin1')
  const within = (value: number, max: number): number => (value >= 0 && value <= max ? value : 0)
  fields.path.copy(block, 0, 0, MAX_NAME)
  octal(fields.mode, 100, 7)
  octal(within(fields.uid, MAX_ID), 108, 7)
  octal(within(fields.gid, MAX_ID), 116, 7)
  octal(within(fields.size, MAX_OCTAL), 124, 11)
  octal(within(fields.mtime, MAX_OCTAL), 136, 11)
  block.fill(0x20, 148, 156)
  block[156] = fields.flag
  fields.link?.copy(block, 157, 0, MAX_NAME)
  block.write('ustar\x0000', 257, 'latin1')
  octal(fields.devMajor ?? 0, 329, 7)
  octal(fields.devMinor ?? 0, 337, 7)
  let sum = 0
  for (let at = 0; at < BLOCK; at++) sum += block[at]!
  block.write(`${sum.toString(8).padStart(6, '0')}\0`, 148, 'latin1')
  return block
}
