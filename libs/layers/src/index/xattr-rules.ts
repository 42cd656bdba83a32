import type { Xattr } from '../kind.js'
import { invalid, quoted } from './layer-path.js'

/**
 * EROFS holds a value's length in 16 bits (the kernel's own limit is one byte more), and all of an
 * inode's in this many bytes.
 */
const MAX_VALUE = 0xffff
const MAX_TOTAL = 0x3_fff0
const MAX_NAME = 255
const ACCESS_ACL = 'system.posix_acl_access'
const DEFAULT_ACL = 'system.posix_acl_default'
const CAPABILITY = 'security.capability'

/** What has an attribute. Linux does not keep each on every kind of file (xattr(7)). */
export type XattrHolder = 'file' | 'directory' | 'symlink' | 'other'

/**
 * The extended attributes of a tar's entry that a layer keeps, sorted by name, so that equal trees
 * have equal bytes.
 *
 * Dropped, as the engines drop them:
 * - `trusted.*` and `user.overlay.*`: overlayfs obeys them, and an image must not steer it;
 * - `security.selinux`: the label belongs to the machine;
 * - every name outside the namespaces that file systems of Linux keep (ENOTSUP);
 * - `user.*` on all but files and directories (EPERM), access control lists on symbolic links
 *   (EOPNOTSUPP), and lists without an entry, which Linux takes for none.
 *
 * Refused: values that no file system of Linux takes, since the engines fail at them.
 */
export function keptXattrs(xattrs: readonly Xattr[], holder: XattrHolder, path: Uint8Array): Xattr[] {
  if (xattrs.length === 0) return []
  const kept = new Map<string, Xattr>()
  for (const xattr of xattrs) {
    const name = xattr[0].toString('latin1')
    if (!isKept(name) || !isTakenBy(holder, name)) continue
    check(name, xattr[1], holder, path)
    if (isAcl(name) && xattr[1].length === ACL_HEADER) kept.delete(name)
    else kept.set(name, xattr)
  }
  return [...kept.values()].sort((a, b) => Buffer.compare(a[0], b[0]))
}

/** Errors: `layer_invalid` for more attributes and bytes than an inode holds. */
export function checkXattrSize(count: number, bytes: number, path: Uint8Array): void {
  if (bytes + 8 * count > MAX_TOTAL)
    throw invalid(`${quoted(path)} has more than ${MAX_TOTAL} bytes of extended attributes`)
}

export function isKept(name: string): boolean {
  if (isAcl(name)) return true
  if (name.startsWith('user.')) return name.length > 'user.'.length && !name.startsWith('user.overlay.')
  return name.startsWith('security.') && name.length > 'security.'.length && name !== 'security.selinux'
}

function isTakenBy(holder: XattrHolder, name: string): boolean {
  if (isAcl(name)) return holder !== 'symlink'
  return !name.startsWith('user.') || holder === 'file' || holder === 'directory'
}

function isAcl(name: string): boolean {
  return name === ACCESS_ACL || name === DEFAULT_ACL
}

function check(name: string, value: Buffer, holder: XattrHolder, path: Uint8Array): void {
  const what = `the extended attribute ${JSON.stringify(name.slice(0, 300))} of ${quoted(path)}`
  if (name.length > MAX_NAME || name.includes('\0')) throw invalid(`${what} has a name that Linux does not take`)
  if (value.length > MAX_VALUE) throw invalid(`${what} has more than ${MAX_VALUE} bytes`)
  if (isAcl(name) && !isValidAcl(value))
    throw invalid(`${what} is not an access control list, or is one that Linux does not take`)
  if (name === DEFAULT_ACL && holder !== 'directory')
    throw invalid(`${what} is a default access control list, which only a directory has`)
  if (name === CAPABILITY && !isValidCapability(value))
    throw invalid(`${what} is not a set of capabilities that Linux takes`)
}

const ACL_HEADER = 4
const ACL_ENTRY = 8
const TAG = { userObj: 0x01, user: 0x02, groupObj: 0x04, group: 0x08, mask: 0x10, other: 0x20 } as const
const NO_ID = 0xffffffff

/**
 * linux/posix_acl_xattr.h: version 2, then (u16 tag, u16 permissions, u32 id) each. In the order,
 * and as complete, as the kernel wants it (posix_acl_valid in fs/posix_acl.c): the owner, named
 * users, the group, named groups, a mask, which is needed where there is a named one, the others.
 */
function isValidAcl(value: Buffer): boolean {
  if (value.length < ACL_HEADER || (value.length - ACL_HEADER) % ACL_ENTRY !== 0 || value.readUInt32LE(0) !== 2)
    return false
  if (value.length === ACL_HEADER) return true
  let tags = ''
  for (let at = ACL_HEADER; at < value.length; at += ACL_ENTRY) {
    const tag = value.readUInt16LE(at)
    const isNamed = tag === TAG.user || tag === TAG.group
    if (value.readUInt16LE(at + 2) > 7 || (isNamed && value.readUInt32LE(at + 4) === NO_ID)) return false
    tags += LETTERS[tag] ?? '?'
  }
  return ACL_ORDER.test(tags)
}

const LETTERS: Readonly<Record<number, string>> = {
  [TAG.userObj]: 'U',
  [TAG.user]: 'u',
  [TAG.groupObj]: 'G',
  [TAG.group]: 'g',
  [TAG.mask]: 'm',
  [TAG.other]: 'o',
}
const ACL_ORDER = /^U(Gm?|u+Gg*m|Gg+m)o$/

/**
 * linux/capability.h: revision 2 in 20 bytes, or revision 3 in 24, whose last word is the id of a
 * namespace's root. The kernel takes no other (cap_convert_nscap in security/commoncap.c).
 */
function isValidCapability(value: Buffer): boolean {
  if (value.length !== 20 && value.length !== 24) return false
  const revision = value[3]
  return value.length === 20 ? revision === 2 : revision === 3 && value.readUInt32LE(20) !== NO_ID
}
