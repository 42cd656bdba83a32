import { bind, check, cString, lastErrno, show, systemError, type Path } from '../libc.js'

const lsetxattrCall = bind('lsetxattr', ['ptr', 'ptr', 'ptr', 'ulong', 'int'])
const lgetxattrCall = bind('lgetxattr', ['ptr', 'ptr', 'ptr', 'ulong'], 'long')
const lremovexattrCall = bind('lremovexattr', ['ptr', 'ptr'])
const llistxattrCall = bind('llistxattr', ['ptr', 'ptr', 'ulong'], 'long')
/**
 * XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h: no value and no list is longer, so one call
 * each is enough.
 */
const MAX_VALUE = 65_536
const ERANGE = 34
const ENODATA = 61

/**
 * Extended attributes of the file itself, never of what a symbolic link points at. Names with their
 * prefix, as bytes.
 */
export function lsetxattr(path: Path, name: Path, value: Buffer): void {
  check(
    lsetxattrCall(cString(path), cString(name), value, value.length, 0),
    'lsetxattr',
    `${show(name)} of ${show(path)}`,
  )
}

/** ENODATA (SystemError) if it has none of this name. */
export function lremovexattr(path: Path, name: Path): void {
  check(lremovexattrCall(cString(path), cString(name)), 'lremovexattr', `${show(name)} of ${show(path)}`)
}

/** `undefined` if it has none of this name. */
export function lgetxattr(path: Path, name: Path): Buffer | undefined {
  const value = Buffer.allocUnsafe(MAX_VALUE)
  const length = lgetxattrCall(cString(path), cString(name), value, value.length)
  if (length >= 0) return Buffer.from(value.subarray(0, length))
  const errno = lastErrno()
  if (errno === ENODATA) return undefined
  throw systemError(errno, 'lgetxattr', `${show(name)} of ${show(path)}`)
}

/** In the file system's order. */
export function llistxattr(path: Path): Buffer[] {
  const list = Buffer.allocUnsafe(MAX_VALUE)
  const length = llistxattrCall(cString(path), list, list.length)
  if (length < 0) {
    const errno = lastErrno()
    throw systemError(
      errno,
      'llistxattr',
      errno === ERANGE ? `${show(path)} has more than 64 KiB of names` : show(path),
    )
  }
  const names: Buffer[] = []
  for (let at = 0; at < length;) {
    const end = list.indexOf(0, at)
    names.push(Buffer.from(list.subarray(at, end)))
    at = end + 1
  }
  return names
}
