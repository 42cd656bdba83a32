import { readSync, writeSync } from 'node:fs'
import { copyFileRange } from '@strata/linux'
import { StrataError } from '@strata/base'
import { throwIfStopped } from '../threads/stop.js'

const PIECE = 1024 * 1024
/** At most so many bytes in one system call, so that a cancelled copy ends soon. */
const MAX_RANGE = 64 * PIECE
let buffer: Buffer | undefined

/**
 * Copies bytes of one open file into another, within the kernel if the two file systems can do
 * that.
 * @throws StrataError `corrupt` if the source ends too early
 */
export function copyData(from: number, fromOffset: number, to: number, toOffset: number, length: number): void {
  let done = 0
  while (done < length) {
    throwIfStopped()
    const copied = copyPiece(from, fromOffset + done, to, toOffset + done, length - done)
    if (copied === 0)
      throw new StrataError(
        'corrupt',
        `a file ends before byte ${fromOffset + length}: it is a layer's tar that does not fit its index, or a file of a root that was changed`,
      )
    done += copied
  }
}

function copyPiece(from: number, fromOffset: number, to: number, toOffset: number, length: number): number {
  try {
    return copyFileRange(from, fromOffset, to, toOffset, Math.min(length, MAX_RANGE))
  } catch (error) {
    if (!['EXDEV', 'EINVAL', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS'].includes((error as NodeJS.ErrnoException).code ?? ''))
      throw error
  }
  buffer ??= Buffer.allocUnsafe(PIECE)
  const read = readSync(from, buffer, 0, Math.min(PIECE, length), fromOffset)
  for (let written = 0; written < read;) written += writeSync(to, buffer, written, read - written, toOffset + written)
  return read
}
