import { BLOCK } from './tar-header.js'

/** Two blocks of zeros (POSIX.1-2024, pax, "ustar Interchange Format"). */
export const END_OF_TAR = Buffer.alloc(2 * BLOCK)

/** What fills the last block of a file of `size` bytes. Not to be written to. */
export function zerosAfter(size: number): Buffer {
  return END_OF_TAR.subarray(0, (BLOCK - (size % BLOCK)) % BLOCK)
}
