import { BLOCK } from './tar-header.js'

/** Two blocks of zeros (POSIX.1-2024, pax, "ustar Interchange Format"). */
export const END_OF_TAR = Buffer.alloc(2 * BLOCK)

/** What 11 octal digits hold; larger sizes are written as GNU tar does, in base 256. */
const MAX_OCTAL = 8 ** 11 - 1

/** The header of a file, or of a folder where the name ends in `/`: root's, read-only but for root, of the beginning of time. Names of at most 100 bytes of ASCII. */
export function writeHeader({ name, size }: { readonly name: string; readonly size: number }): Buffer {
  if (name.length > 100) throw new RangeError(`${name} is too long for a plain header`)
  const isFolder = name.endsWith('/')
  const block = Buffer.alloc(BLOCK)
  const octal = (value: number, at: number, digits: number): void => void block.write(`${value.toString(8).padStart(digits, '0')}\0`, at, 'latin1')
  block.write(name, 0, 'latin1')
  octal(isFolder ? 0o755 : 0o644, 100, 7)
  octal(0, 108, 7)
  octal(0, 116, 7)
  if (size <= MAX_OCTAL) octal(size, 124, 11)
  else {
    block[124] = 0x80
    block.writeBigUInt64BE(BigInt(size), 128)
  }
  octal(0, 136, 11)
  block.write(`        ${isFolder ? '5' : '0'}`, 148, 'latin1')
  block.write('ustar\x0000', 257, 'latin1')
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    6,
  )
  return block
}

/** What fills the last block of a file of `size` bytes. Not to be written to. */
export function zerosAfter(size: number): Buffer {
  return END_OF_TAR.subarray(0, (BLOCK - (size % BLOCK)) % BLOCK)
}
