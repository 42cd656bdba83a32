import { arch } from 'node:process'
import { AT_FDCWD, bind, bindSyscall, check, cString, lastErrno, show, systemError, type Path } from '../libc.js'

/** openat2(2), `resolve` (linux/openat2.h). */
export const RESOLVE_NO_MAGICLINKS = 2
export const RESOLVE_NO_SYMLINKS = 4
export const RESOLVE_BENEATH = 8
export const RESOLVE_IN_ROOT = 16
/** Opens the place, not the file; not in node:fs. The same on every Linux we run on. */
export const O_PATH = 0o10000000
const O_CLOEXEC = 0o2000000

const openCall = bind('open', ['ptr', 'int', 'uint'])
const closeCall = bind('close', ['int'])
const openat2Call = bindSyscall(437, ['int', 'ptr', 'ptr', 'ulong'])
const mkdiratCall = bind('mkdirat', ['int', 'ptr', 'uint'])
/** As a system call: glibc exports mknodat only since 2.33. */
const mknodatCall = bindSyscall(arch === 'x64' ? 259 : 33, ['int', 'ptr', 'uint', 'uint'])
const linkatCall = bind('linkat', ['int', 'ptr', 'int', 'ptr', 'int'])
const symlinkatCall = bind('symlinkat', ['ptr', 'int', 'ptr'])
const fchownatCall = bind('fchownat', ['int', 'ptr', 'uint', 'uint', 'int'])
const fchmodatCall = bind('fchmodat', ['int', 'ptr', 'uint', 'int'])
const utimensatCall = bind('utimensat', ['int', 'ptr', 'ptr', 'int'])

const EAGAIN = 11
/** One in a thousand fails where another does nothing but rename. */
const ATTEMPTS = 128
const AT_SYMLINK_NOFOLLOW = 0x100
const S_IFIFO = 0o010000
const S_IFCHR = 0o020000
const S_IFBLK = 0o060000

/**
 * How a folder is given: an open descriptor, or its path. Of a path that is absolute the descriptor
 * plays no part.
 */
export type Folder = number | Path

/**
 * openat2(2) (Linux 5.6): opens `path` below `folder` with the kernel itself keeping the walk
 * inside by `resolve` (`RESOLVE_IN_ROOT` and others). Gives a descriptor (closed on exec) which the
 * caller closes. ENOENT, ELOOP (a link where none may be), EXDEV (it leads out).
 *
 * Where the walk goes back (`..`) and anything is renamed or mounted on the machine meanwhile, the
 * kernel cannot tell that it stayed inside, and wants to be asked again (EAGAIN).
 */
export function openat2(folder: Folder, path: Path, flags: number, resolve: number, mode = 0): number {
  const how = Buffer.alloc(24)
  how.writeBigUInt64LE(BigInt(flags | O_CLOEXEC), 0)
  how.writeBigUInt64LE(BigInt(mode), 8)
  how.writeBigUInt64LE(BigInt(resolve), 16)
  const base =
    typeof folder === 'number' ? folder : check(openCall(cString(folder), O_PATH | O_CLOEXEC, 0), 'open', show(folder))
  try {
    for (let attempt = 1; ; attempt++) {
      const opened = openat2Call(base, cString(path), how, how.length)
      if (opened >= 0 || lastErrno() !== EAGAIN || attempt === ATTEMPTS) return check(opened, 'openat2', show(path))
    }
  } finally {
    if (typeof folder !== 'number') closeCall(base)
  }
}

/** The mode is subject to the umask, as everywhere. */
export function mkdirat(dirfd: number, name: Path, mode: number): void {
  check(mkdiratCall(dirfd, cString(name), mode), 'mkdirat', show(name))
}

/**
 * A device (or, with `major` and `minor` 0 and S_IFCHR, overlayfs's whiteout). `mode` holds S_IFCHR
 * or S_IFBLK and the permissions. Major 12 bits, minor 20.
 */
export function mknodat(dirfd: number, name: Path, mode: number, major: number, minor: number): void {
  const device = (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & ~0xff) << 12)
  check(mknodatCall(dirfd, cString(name), mode, device >>> 0), 'mknodat', show(name))
}

export function mknod(path: Path, mode: number, major: number, minor: number): void {
  if ((mode & 0o170000) !== S_IFCHR && (mode & 0o170000) !== S_IFBLK)
    throw systemError(22, 'mknod', 'the mode names neither a character nor a block device')
  mknodat(AT_FDCWD, path, mode, major, minor)
}

export function mkfifoat(dirfd: number, name: Path, mode: number): void {
  check(mknodatCall(dirfd, cString(name), S_IFIFO | mode, 0), 'mkfifoat', show(name))
}

export function mkfifo(path: Path, mode: number): void {
  mkfifoat(AT_FDCWD, path, mode)
}

/**
 * A further name for what `fromName` names itself: a symbolic link at its end is linked, not
 * followed.
 */
export function linkat(fromDirfd: number, fromName: Path, dirfd: number, name: Path): void {
  check(linkatCall(fromDirfd, cString(fromName), dirfd, cString(name), 0), 'linkat', show(name))
}

export function symlinkat(target: Path, dirfd: number, name: Path): void {
  check(symlinkatCall(cString(target), dirfd, cString(name)), 'symlinkat', show(name))
}

/**
 * Never follows a symbolic link at the end of the name. It clears set-user-id bits, so it comes
 * before fchmodat.
 */
export function fchownat(dirfd: number, name: Path, uid: number, gid: number): void {
  check(fchownatCall(dirfd, cString(name), uid, gid, AT_SYMLINK_NOFOLLOW), 'fchownat', show(name))
}

/**
 * Follows a symbolic link at the end: the kernel knows no mode of a link, so the caller must know
 * that it is none.
 */
export function fchmodat(dirfd: number, name: Path, mode: number): void {
  check(fchmodatCall(dirfd, cString(name), mode, 0), 'fchmodat', show(name))
}

/**
 * Modification and access time, never following a link at the end: whole seconds (may be negative)
 * and 0..999,999,999 ns.
 */
export function utimensat(dirfd: number, name: Path, seconds: number, nanoseconds: number): void {
  const times = Buffer.alloc(32)
  for (const at of [0, 16]) {
    times.writeBigInt64LE(BigInt(seconds), at)
    times.writeUInt32LE(nanoseconds, at + 8)
  }
  check(utimensatCall(dirfd, cString(name), times, AT_SYMLINK_NOFOLLOW), 'utimensat', show(name))
}

export function lutimes(path: Path, seconds: number, nanoseconds: number): void {
  utimensat(AT_FDCWD, path, seconds, nanoseconds)
}
