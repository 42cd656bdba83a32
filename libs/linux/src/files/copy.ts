import { bind, check, lastErrno, systemError } from '../libc.js'

const copyFileRangeCall = bind('copy_file_range', ['int', 'ptr', 'int', 'ptr', 'ulong', 'uint'], 'long')
const offsets = { from: Buffer.alloc(8), to: Buffer.alloc(8) }

/**
 * copy_file_range(2): within the kernel, and without copying where the file system can share
 * blocks. Copies at most `length` bytes and gives how many; 0 = the source ends there. EXDEV,
 * EOPNOTSUPP, ENOSYS, EINVAL where these two files cannot be copied so.
 */
export function copyFileRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): number {
  offsets.from.writeBigInt64LE(BigInt(fromOffset))
  offsets.to.writeBigInt64LE(BigInt(toOffset))
  return check(copyFileRangeCall(from, offsets.from, to, offsets.to, length, 0), 'copy_file_range')
}

const ioctlNumber = bind('ioctl', ['int', 'ulong', 'long'])
const lseek = bind('lseek', ['int', 'long', 'int'], 'long')
/** linux/fs.h */
const FICLONE = 0x40049409
const SEEK_DATA = 3
const SEEK_HOLE = 4
const ENXIO = 6
/** EXDEV, EINVAL, ENOTTY, EOPNOTSUPP: these two files, or this file system, cannot share blocks. */
const CANNOT_SHARE = new Set([18, 22, 25, 95])

/**
 * Makes the file `to` share all blocks of `from` (ioctl_ficlone(2)); false where the file system
 * cannot do that, and then nothing has changed.
 */
export function cloneFile(from: number, to: number): boolean {
  if (ioctlNumber(to, FICLONE, from) === 0) return true
  const errno = lastErrno()
  if (CANNOT_SHARE.has(errno)) return false
  throw systemError(errno, 'FICLONE')
}

/** The parts of an open file that are no holes (lseek(2), SEEK_DATA). Moves the file's offset. */
export function* dataRanges(fd: number): Generator<{ readonly offset: number; readonly length: number }> {
  for (let end = 0; ;) {
    const offset = lseek(fd, end, SEEK_DATA)
    // No data behind this place.
    if (offset < 0 && lastErrno() === ENXIO) return
    check(offset, 'lseek')
    end = check(lseek(fd, offset, SEEK_HOLE), 'lseek')
    yield { offset, length: end - offset }
  }
}
