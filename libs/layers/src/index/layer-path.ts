import { StrataError } from '@strata/base'

const DOT = 0x2e
const SLASH = 0x2f
/** NAME_MAX of Linux; EROFS and every file system we write to have the same. */
const MAX_NAME = 255
export const MAX_DEPTH = 1024
/** PATH_MAX with its final zero byte. */
export const MAX_PATH = 4096

/** A name in an error: readable, bounded, with nothing in it that a terminal would obey. */
export function quoted(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 300)).toString('utf8')
  return JSON.stringify(bytes.length > 300 ? `${text}…` : text)
}

export function invalid(why: string): StrataError {
  return new StrataError('layer_invalid', why)
}

/**
 * The components of a path in a tar, as pairs of (start, end) into it: `./a`, `/a`, `a//b`, `a/.`
 * and `a/x/../b` are cleaned by their text alone, as filepath.Clean of Go does it for the engines.
 * No component at all is the root.
 *
 * A `..` therefore never depends on what the layer has: behind a symbolic link it takes the link's
 * own name away, not the folder that the link leads to. One that leads above the root is refused:
 * some tools put such a name into the root, others refuse it.
 */
export function splitPath(path: Uint8Array, what: string, into: number[]): void {
  into.length = 0
  if (path.length >= MAX_PATH) throw invalid(`${what} ${quoted(path)} has more than ${MAX_PATH - 1} bytes`)
  for (let start = 0; start < path.length;) {
    let end = start
    while (end < path.length && path[end] !== SLASH) {
      if (path[end] === 0) throw invalid(`${what} ${quoted(path)} has a zero byte in it`)
      end++
    }
    const length = end - start
    if (length > MAX_NAME) throw invalid(`${what} ${quoted(path)} has a component of more than ${MAX_NAME} bytes`)
    if (isDots(path, start, end, 2)) {
      if (into.length === 0) throw invalid(`${what} ${quoted(path)} leads out of the root`)
      into.length -= 2
    } else if (length > 0 && !isDots(path, start, end, 1)) into.push(start, end)
    start = end + 1
  }
  if (into.length > 2 * MAX_DEPTH) throw invalid(`${what} ${quoted(path)} is more than ${MAX_DEPTH} folders deep`)
}

/** Whether a component is `.` (one dot) or `..` (two). */
export function isDots(path: Uint8Array, start: number, end: number, count: 1 | 2): boolean {
  return end - start === count && path[start] === DOT && path[end - 1] === DOT
}

/**
 * What a component means (image-spec, layer.md, "Whiteouts"; the rest is aufs, where the scheme
 * comes from).
 */
export type Meaning = 'name' | 'whiteout' | 'opaque' | 'metadata' | 'forbidden'

const PREFIX = Buffer.from('.wh.')
const OPAQUE = Buffer.from('.wh..wh..opq')
/** The hidden name begins behind this. */
export const WHITEOUT_PREFIX = PREFIX.length

export function meaningOf(path: Uint8Array, start: number, end: number): Meaning {
  if (path[start] !== DOT || !begins(path, start, end, PREFIX)) return 'name'
  const rest = start + PREFIX.length
  if (begins(path, rest, end, PREFIX))
    return end - start === OPAQUE.length && begins(path, start, end, OPAQUE) ? 'opaque' : 'metadata'
  // `.wh.` alone hides nothing, `.wh..` and `.wh...` would hide the folder itself and the one
  // above: umoci once took the first for an opaque mark.
  const hidden = end - rest
  const dots = hidden <= 2 && path.subarray(rest, end).every((byte) => byte === DOT)
  return dots ? 'forbidden' : 'whiteout'
}

function begins(path: Uint8Array, start: number, end: number, prefix: Uint8Array): boolean {
  if (end - start < prefix.length) return false
  for (let index = 0; index < prefix.length; index++) if (path[start + index] !== prefix[index]) return false
  return true
}
