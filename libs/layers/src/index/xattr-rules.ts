import type { Xattr } from '../kind.js'
import { invalid, quoted } from './layer-path.js'

/**
 * EROFS holds a value's length in 16 bits (the kernel's own limit is one byte more), and all of an
 * inode's in this many bytes.
 */
const MAX_VALUE = 0xffff
const MAX_TOTAL = 0x3_fff0
const MAX_NAME = 255
const ACL = ['system.posix_acl_access', 'system.posix_acl_default']

/**
 * The extended attributes of a tar's entry that a layer keeps, sorted by name, so that equal trees
 * have equal bytes.
 *
 * Dropped: `trusted.*` and `user.overlay.*`, since overlayfs obeys them and an image must not steer
 * it; `security.selinux`, since the label belongs to the machine; and every name outside the
 * namespaces that file systems of Linux keep, which docker's extraction drops with ENOTSUP as well.
 */
export function keptXattrs(xattrs: readonly Xattr[], path: Uint8Array): Xattr[] {
  if (xattrs.length === 0) return []
  const kept = new Map<string, Xattr>()
  let total = 0
  for (const xattr of xattrs) {
    const name = xattr[0].toString('latin1')
    if (!isKept(name)) continue
    check(name, xattr[1], path)
    if (!kept.has(name)) total += 8 + xattr[0].length
    total += xattr[1].length
    if (total > MAX_TOTAL) throw invalid(`${quoted(path)} has more than ${MAX_TOTAL} bytes of extended attributes`)
    kept.set(name, xattr)
  }
  return [...kept.values()].sort((a, b) => Buffer.compare(a[0], b[0]))
}

export function isKept(name: string): boolean {
  if (ACL.includes(name)) return true
  if (name.startsWith('user.')) return name.length > 'user.'.length && !name.startsWith('user.overlay.')
  return name.startsWith('security.') && name.length > 'security.'.length && name !== 'security.selinux'
}

function check(name: string, value: Buffer, path: Uint8Array): void {
  const what = `the extended attribute ${JSON.stringify(name.slice(0, 300))} of ${quoted(path)}`
  if (name.length > MAX_NAME || name.includes('\0')) throw invalid(`${what} has a name that Linux does not take`)
  if (value.length > MAX_VALUE) throw invalid(`${what} has more than ${MAX_VALUE} bytes`)
  if (ACL.includes(name) && !isAcl(value)) throw invalid(`${what} is not an access control list`)
}

/**
 * linux/posix_acl_xattr.h: version 2, then (u16 tag, u16 permissions, u32 id) each. The kernel
 * answers EINVAL for a broken one at every look at the file.
 */
function isAcl(value: Buffer): boolean {
  if (value.length < 4 || (value.length - 4) % 8 !== 0 || value.readUInt32LE(0) !== 2) return false
  for (let at = 4; at < value.length; at += 8) {
    const tag = value.readUInt16LE(at)
    if (![0x01, 0x02, 0x04, 0x08, 0x10, 0x20].includes(tag) || value.readUInt16LE(at + 2) > 7) return false
  }
  return true
}
