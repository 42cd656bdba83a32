import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createInflateRaw } from 'node:zlib'

/** How far back deflate refers. */
export const WINDOW = 32 * 1024

/**
 * A deflate stream unpacked from a place in its middle: `packed` begins with the byte that holds the block's first bit, which is bit `shift` of it, and `window` are the up to 32 KiB that came out before. zlib begins at a byte's first bit only, so all bits are moved.
 */
export function inflateFrom(packed: Readable, shift: number, window: Buffer): Readable {
  const inflate = createInflateRaw({ dictionary: window, chunkSize: 256 * 1024 })
  // Its error is the reader's to see; who stops reading ends all.
  const piped = shift === 0 ? pipeline(packed, inflate) : pipeline(packed, shifter(shift), inflate)
  piped.catch(() => undefined)
  return inflate
}

/** Each byte's bits from `shift` on, with those of the next byte below it; of the last byte what there is. */
export function shiftedBits(bytes: Uint8Array, shift: number): Buffer {
  const shifted = Buffer.allocUnsafe(bytes.length)
  moveBits(bytes, shift, shifted)
  if (bytes.length > 0) shifted[bytes.length - 1] = bytes[bytes.length - 1]! >>> shift
  return shifted
}

function moveBits(bytes: Uint8Array, shift: number, into: Uint8Array): void {
  const up = 8 - shift
  for (let at = 0; at < bytes.length - 1; at++) into[at] = (bytes[at]! >>> shift) | (bytes[at + 1]! << up)
}

function shifter(shift: number): Transform {
  let last: number | undefined
  return new Transform({
    transform(piece: Buffer, _encoding, done) {
      if (piece.length === 0) return done()
      const joined = last === undefined ? piece : Buffer.concat([Buffer.of(last), piece])
      last = joined[joined.length - 1]
      const shifted = Buffer.allocUnsafe(joined.length - 1)
      moveBits(joined, shift, shifted)
      done(null, shifted)
    },
    flush(done) {
      done(null, last === undefined ? undefined : Buffer.of(last >>> shift))
    },
  })
}
