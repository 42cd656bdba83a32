import { XATTR_ENTRY, XATTR_HEADER } from './format.js'
import { ErofsError } from './source.js'

/** Name prefixes the format has a number for. The two ACLs are known by the number alone. */
const PREFIXES: readonly (readonly [text: string, id: number, isWhole: boolean])[] = [
  ['user.', 1, false], ['system.posix_acl_access', 2, true], ['system.posix_acl_default', 3, true], ['trusted.', 4, false], ['security.', 6, false],
]

type Xattrs = readonly (readonly [name: Uint8Array, value: Uint8Array])[]

/** Bytes of an inode's attributes as `xattrBytes` makes them: 0 for none. */
export function xattrSize(xattrs: Xattrs): number {
  if (xattrs.length === 0) return 0
  let size = XATTR_HEADER
  for (const [name, value] of xattrs) size += padded(XATTR_ENTRY + prefixOf(name).suffix.length + value.length)
  // The inode holds the size in units of 4, less the header, in 16 bits.
  if (countField(size) > 0xffff) throw new ErofsError('E2BIG', `an inode has ${size} bytes of extended attributes; EROFS holds 262,144`)
  return size
}

/** The inode's own field that tells their size. */
export function countField(size: number): number {
  return size === 0 ? 0 : (size - XATTR_HEADER) / 4 + 1
}

/** All of them inline: no shared ones, so the header is zeros. */
export function xattrBytes(xattrs: Xattrs): Buffer {
  const out = Buffer.alloc(xattrSize(xattrs))
  let at = XATTR_HEADER
  for (const [name, value] of xattrs) {
    const { id, suffix } = prefixOf(name)
    if (suffix.length > 0xff || value.length > 0xffff) throw new ErofsError('E2BIG', `the extended attribute ${JSON.stringify(suffix.toString('utf8'))} is longer than EROFS can hold`)
    out[at] = suffix.length
    out[at + 1] = id
    out.writeUInt16LE(value.length, at + 2)
    suffix.copy(out, at + XATTR_ENTRY)
    out.set(value, at + XATTR_ENTRY + suffix.length)
    at += padded(XATTR_ENTRY + suffix.length + value.length)
  }
  return out
}

function prefixOf(bytes: Uint8Array): { id: number; suffix: Buffer } {
  const name = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const text = name.toString('latin1')
  for (const [prefix, id, isWhole] of PREFIXES) {
    if (isWhole ? text === prefix : text.startsWith(prefix) && text.length > prefix.length) return { id, suffix: name.subarray(prefix.length) }
  }
  throw new ErofsError('EINVAL', `EROFS has no room for an extended attribute named ${JSON.stringify(text)}`)
}

function padded(size: number): number {
  return (size + 3) & ~3
}
