/**
 * Tars made by hand, a block at a time, so that tests can write what no tool writes. Strings are
 * latin1: a character is a byte.
 */
export interface HeaderFields {
  name: string
  type?: string
  size?: number
  link?: string
  prefix?: string
  format?: 'ustar' | 'gnu' | 'v7'
  mode?: number
  uid?: number
  gid?: number
  mtime?: number
  major?: number
  minor?: number
  /** Adds up the checksum over signed bytes. */
  signed?: boolean
  /** Written as they are, instead of octal. */
  raw?: Partial<Record<'mode' | 'uid' | 'gid' | 'size' | 'mtime', string>>
  sparse?: [offset: number, size: number][]
  realSize?: number
  more?: boolean
}

const octal = (value: number, digits: number): string => `${value.toString(8).padStart(digits, '0')}\0`

export function header(fields: HeaderFields): Buffer {
  const bytes = Buffer.alloc(512)
  const put = (text: string, at: number): void => void bytes.write(text, at, 'latin1')
  const { format = 'ustar', raw = {} } = fields
  put(fields.name, 0)
  put(raw.mode ?? octal(fields.mode ?? 0o644, 7), 100)
  put(raw.uid ?? octal(fields.uid ?? 1000, 7), 108)
  put(raw.gid ?? octal(fields.gid ?? 1000, 7), 116)
  put(raw.size ?? octal(fields.size ?? 0, 11), 124)
  put(raw.mtime ?? octal(fields.mtime ?? 0, 11), 136)
  put(' '.repeat(8), 148)
  put(fields.type ?? '0', 156)
  put(fields.link ?? '', 157)
  if (format !== 'v7') put(format === 'gnu' ? 'ustar  \0' : 'ustar\x0000', 257)
  if (fields.major !== undefined) put(octal(fields.major, 7), 329)
  if (fields.minor !== undefined) put(octal(fields.minor, 7), 337)
  put(fields.prefix ?? '', 345)
  fields.sparse?.forEach(([offset, size], i) => put(octal(offset, 11) + octal(size, 11), 386 + 24 * i))
  if (fields.more) bytes[482] = 1
  if (fields.realSize !== undefined) put(octal(fields.realSize, 11), 483)
  const sum = bytes.reduce((total, byte) => total + (fields.signed ? (byte << 24) >> 24 : byte), 0)
  put(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return bytes
}

/** Content padded to whole blocks; of nothing one block of zeros. */
export function block(content: string | Uint8Array): Buffer {
  const bytes = Buffer.from(content as string, 'latin1')
  return Buffer.concat([bytes], Math.max(1, Math.ceil(bytes.length / 512)) * 512)
}

export function file(name: string, content: string | Uint8Array, fields: Partial<HeaderFields> = {}): Buffer {
  return content.length === 0
    ? header({ name, ...fields })
    : Buffer.concat([header({ name, size: content.length, ...fields }), block(content)])
}

/** One record; its length counts itself. */
export function pax(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`
  let length = rest.length + 1
  while (`${length}`.length + rest.length !== length) length++
  return `${length}${rest}`
}

export function paxHeader(records: string, type: 'x' | 'g' = 'x'): Buffer {
  return Buffer.concat([header({ name: 'PaxHeaders/x', type, size: records.length }), block(records)])
}

/** The end of a tar. */
export const ZEROS = Buffer.alloc(1024)

export const concat = (...parts: Uint8Array[]): Buffer => Buffer.concat(parts)
