import { chmodSync, chownSync, lstatSync } from 'node:fs'
import { lgetxattr, llistxattr, lutimes } from '@strata/linux'
import { keepXattr } from '../../trees/keep-xattr.js'

const SECOND = 1_000_000_000n
const ROOT = Buffer.alloc(0)

/**
 * Owner, mode, extended attributes and modification time of an image's root, onto another folder.
 * Errors: `unsupported` for an attribute that the other folder's file system does not keep.
 */
export function copyAttributes(from: string, to: string): void {
  const stats = lstatSync(from, { bigint: true })
  chownSync(to, Number(stats.uid), Number(stats.gid))
  chmodSync(to, Number(stats.mode) & 0o7777)
  for (const name of llistxattr(from)) {
    const value = lgetxattr(from, name)
    if (value) keepXattr(to, name, value, () => ROOT)
  }
  const nanos = ((stats.mtimeNs % SECOND) + SECOND) % SECOND
  lutimes(to, Number((stats.mtimeNs - nanos) / SECOND), Number(nanos))
}
