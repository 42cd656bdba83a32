import { chmodSync, chownSync, lstatSync } from 'node:fs'
import { lgetxattr, llistxattr, lsetxattr, lutimes } from '@strata/linux'

const SECOND = 1_000_000_000n

/** Owner, mode, extended attributes and modification time of a folder, onto another folder. */
export function copyAttributes(from: string, to: string): void {
  const stats = lstatSync(from, { bigint: true })
  chownSync(to, Number(stats.uid), Number(stats.gid))
  chmodSync(to, Number(stats.mode) & 0o7777)
  for (const name of llistxattr(from)) {
    const value = lgetxattr(from, name)
    if (value) lsetxattr(to, name, value)
  }
  const nanos = ((stats.mtimeNs % SECOND) + SECOND) % SECOND
  lutimes(to, Number((stats.mtimeNs - nanos) / SECOND), Number(nanos))
}
