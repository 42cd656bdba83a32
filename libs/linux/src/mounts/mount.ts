import { bind, check, cString, show, type Path } from '../libc.js'

/** mount(2) flags (linux/mount.h). */
export const MS_RDONLY = 1
export const MS_NOSUID = 2
export const MS_NODEV = 4
export const MS_REMOUNT = 32
export const MS_BIND = 4096
export const MS_PRIVATE = 1 << 18
/** umount2(2) flags. */
export const MNT_DETACH = 2
const UMOUNT_NOFOLLOW = 8

const mountCall = bind('mount', ['ptr', 'ptr', 'ptr', 'ulong', 'ptr'])
const umountCall = bind('umount2', ['ptr', 'int'])

/** mount(2). `data` must be shorter than a page (4,096 bytes): mountFs has no such limit. */
export function mount(source: Path, target: Path, fstype: string, flags: number, data = ''): void {
  const result = mountCall(cString(source), cString(target), cString(fstype), flags, data ? cString(data) : null)
  check(result, 'mount', `${fstype || show(source)} on ${show(target)}`)
}

/**
 * umount2(2); EBUSY while the mount is in use, EINVAL where nothing is mounted. A symbolic link at
 * the end of `target` is not followed.
 */
export function umount(target: Path, flags = 0): void {
  check(umountCall(cString(target), flags | UMOUNT_NOFOLLOW), 'umount2', show(target))
}
