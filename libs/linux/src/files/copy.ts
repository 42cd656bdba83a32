import { bind, check } from '../libc.js'

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
