import { readSync, writeSync } from 'node:fs'
import { copyFileRange } from '@strata/linux'
import { StrataError } from '@strata/base'
import { throwIfStopped } from '../threads/stop.js'

const PIECE = 1024 * 1024
/** So that a cancelled copy ends soon. */
const MAX_RANGE = 64 * PIECE
let buffer: Buffer | undefined

/**
 * Copies bytes of one open file into another; `corrupt` if the source ends before. Within the
 * kernel where these two file systems can.
 */
export function copyData(from: number, fromOffset: number, to: number, toOffset: number, length: number): void {
  let done = 0
  while (done < length) {
    throwIfStopped()
    const copied = copyPiece(from, fromOffset + done, to, toOffset + done, length - done)
    if (copied === 0)
      throw new StrataError(
        'corrupt',
        `a layer's tar ends before byte ${fromOffset + length}, where its index says data are`,
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
