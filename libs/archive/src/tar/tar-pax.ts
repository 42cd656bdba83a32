import { StrataError } from '@strata/base'
import { MAX_XATTRS, NO_XATTRS, type TarEntry, type Xattr } from './tar-entry.js'

/**
 * Extended headers: records `<length> <key>=<value>\n`. Sources: POSIX.1-2024 pax "pax Extended
 * Header"; GNU tar manual "Storing Sparse Files"; tar(5) of libarchive.
 *
 * Records that are none of these are passed over. Among them are `LIBARCHIVE.xattr.*` and
 * `SCHILY.acl.*`: no engine reads them, so a layer that has them would be another tree here.
 */
export interface PaxRecords {
  path?: Buffer
  linkpath?: Buffer
  size?: number
  uid?: number
  gid?: number
  mtime?: { readonly seconds: number; readonly nanos: number }
  /** By name (latin1), so that no record is compared with those before it. */
  xattrs?: Map<string, Xattr>
  sparse?: PaxSparse
}

/**
 * GNU's three ways of saying it: 0.0 pairs of records, 0.1 one list, 1.0 the map in front of the
 * data.
 */
interface PaxSparse {
  major?: string
  minor?: string
  name?: Buffer
  realSize?: number
  /** Offset, size, offset, size, … of 0.0 and 0.1. */
  numbers: number[]
}

const SCHILY = 'SCHILY.xattr.'
const invalid = (why: string): StrataError =>
  new StrataError('archive_invalid', `a tar extended header is not valid: ${why}`)

/**
 * Reads the records of one header. `bytes` must stay unchanged while the records are used: they
 * hold views of it.
 *
 * A global header may set attributes only. Readers disagree about one that names a path or a size
 * (Go's ignores it, GNU's obeys), and an archive that two programs read differently is how entries
 * get smuggled in, so it is refused.
 */
export function parsePax(bytes: Buffer, scope: 'local' | 'global'): PaxRecords {
  const records: PaxRecords = {}
  let at = 0
  while (at < bytes.length) {
    let length = 0
    let i = at
    for (; i < bytes.length && bytes[i] !== 0x20; i++) {
      const digit = bytes[i]! - 0x30
      if (digit < 0 || digit > 9 || i - at > 9) throw invalid('a record has no length')
      length = length * 10 + digit
    }
    const end = at + length
    if (i >= end || end > bytes.length || bytes[end - 1] !== 0x0a) throw invalid("a record's length is wrong")
    const equals = bytes.indexOf(0x3d, i + 1)
    if (equals <= i + 1 || equals > end - 2) throw invalid('a record has no key')
    applyRecord(records, bytes.toString('latin1', i + 1, equals), bytes.subarray(equals + 1, end - 1), scope)
    at = end
  }
  return records
}

function applyRecord(records: PaxRecords, key: string, value: Buffer, scope: 'local' | 'global'): void {
  if (key.startsWith(SCHILY)) return setXattr(records, Buffer.from(key.slice(SCHILY.length), 'latin1'), value)
  const isWhere = key === 'path' || key === 'linkpath' || key === 'size' || key.startsWith('GNU.sparse.')
  if (isWhere && scope === 'global') throw invalid(`a global header must not set ${key}`)
  // An empty value takes a record back: what the 512-byte header says counts again.
  switch (key) {
    case 'path':
      records.path = value.length > 0 ? text(value, key) : undefined
      break
    case 'linkpath':
      records.linkpath = value.length > 0 ? text(value, key) : undefined
      break
    case 'size':
      records.size = value.length > 0 ? wholeNumber(value, key) : undefined
      break
    case 'uid':
      records.uid = value.length > 0 ? owner(value, key) : undefined
      break
    case 'gid':
      records.gid = value.length > 0 ? owner(value, key) : undefined
      break
    case 'mtime':
      records.mtime = value.length > 0 ? time(value) : undefined
      break
    default:
      if (key.startsWith('GNU.sparse.'))
        applySparse((records.sparse ??= { numbers: [] }), key.slice('GNU.sparse.'.length), value)
  }
}

function applySparse(sparse: PaxSparse, key: string, value: Buffer): void {
  switch (key) {
    case 'major':
      sparse.major = value.toString('latin1')
      break
    case 'minor':
      sparse.minor = value.toString('latin1')
      break
    case 'name':
      sparse.name = text(value, 'GNU.sparse.name')
      break
    case 'size':
    case 'realsize':
      sparse.realSize = wholeNumber(value, 'GNU.sparse.realsize')
      break
    case 'offset':
      if (sparse.numbers.length % 2 === 1) throw invalid('GNU.sparse.offset stands twice')
      sparse.numbers.push(wholeNumber(value, key))
      break
    case 'numbytes':
      if (sparse.numbers.length % 2 === 0) throw invalid('GNU.sparse.numbytes has no offset')
      sparse.numbers.push(wholeNumber(value, key))
      break
    case 'map':
      sparse.numbers = numberList(value)
      break
  }
}

function setXattr(records: PaxRecords, name: Buffer, value: Buffer): void {
  if (name.length === 0 || name.includes(0)) throw invalid("an extended attribute's name is not valid")
  const xattrs = (records.xattrs ??= new Map<string, Xattr>())
  const key = name.toString('latin1')
  if (!xattrs.has(key) && xattrs.size >= MAX_XATTRS) throw tooManyXattrs()
  xattrs.set(key, [name, value])
}

function tooManyXattrs(): StrataError {
  return new StrataError('limit_exceeded', `a tar entry has more than ${MAX_XATTRS} extended attributes`)
}

function text(value: Buffer, key: string): Buffer {
  if (value.includes(0)) throw invalid(`${key} holds a NUL byte`)
  return value
}

function wholeNumber(value: Buffer, key: string): number {
  const digits = value.toString('latin1', 0, 20)
  const number = /^[0-9]{1,16}$/.test(digits) && value.length <= 20 ? Number(digits) : NaN
  if (!Number.isSafeInteger(number)) throw invalid(`${key} is not a number`)
  return number
}

/** An owner may be negative, as in base 256: the engines read it so. */
function owner(value: Buffer, key: string): number {
  return value[0] === 0x2d ? 0 - wholeNumber(value.subarray(1), key) : wholeNumber(value, key)
}

/** `0,512,1024,512`, read digit by digit: a list of a mebibyte holds half a million numbers. */
function numberList(value: Buffer): number[] {
  const numbers: number[] = []
  let number = 0
  let digits = 0
  for (let at = 0; at <= value.length && value.length > 0; at++) {
    const digit = at < value.length ? value[at]! - 0x30 : NaN
    if (digit >= 0 && digit <= 9) {
      number = number * 10 + digit
      digits++
      continue
    }
    const isEnd = at === value.length || value[at] === 0x2c
    if (!isEnd || digits === 0 || digits > 16 || !Number.isSafeInteger(number))
      throw invalid('GNU.sparse.map is not a list of numbers')
    numbers.push(number)
    number = digits = 0
  }
  return numbers
}

/**
 * `-1.25` is second -2 and 750,000,000 ns: nanoseconds always count forward. Digits beyond the
 * ninth are cut.
 */
function time(value: Buffer): { seconds: number; nanos: number } {
  const match = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(value.toString('latin1', 0, 64))
  if (!match) throw invalid('mtime is not a time')
  const seconds = Number(match[2])
  const nanos = Number((match[3] ?? '').slice(0, 9).padEnd(9, '0'))
  if (match[1] === '') return { seconds, nanos }
  return nanos === 0 ? { seconds: 0 - seconds, nanos } : { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos }
}

/**
 * Attributes of the file header that `records` overrides; paths, sizes and extended attributes are
 * the reader's business.
 */
export function applyAttributes(entry: TarEntry, records: PaxRecords): void {
  if (records.uid !== undefined) entry.uid = records.uid
  if (records.gid !== undefined) entry.gid = records.gid
  if (records.mtime !== undefined) {
    entry.mtime = records.mtime.seconds
    entry.mtimeNanos = records.mtime.nanos
  }
}

/**
 * The extended attributes of an entry's own header, below those of a global header. Costs as much
 * as the own header has, not as much as both. Errors: `limit_exceeded` if both together have too
 * many.
 */
export function ownXattrs(global: PaxRecords['xattrs'], own: PaxRecords['xattrs']): readonly Xattr[] {
  if (own === undefined) return NO_XATTRS
  let count = global?.size ?? 0
  for (const name of own.keys()) if (global?.has(name) !== true) count++
  if (count > MAX_XATTRS) throw tooManyXattrs()
  return [...own.values()]
}
