import { StrataError } from '@strata/base'

/**
 * What JSON of others may hold. Its size does not bound what it costs: 4 MiB of `[` or of `{},` are
 * two million objects, and take a second of the event loop in one piece.
 */
export interface JsonLimits {
  /** Lists and objects in one another. */
  readonly depth: number
  /** Lists and objects in all. */
  readonly parts: number
  /** Members of all objects: a schema that knows none of them names each. */
  readonly members: number
}

/** For the documents of images: a config may have 200,000 exposed ports, and each is an object. */
export const DOCUMENT_LIMITS: JsonLimits = { depth: 1_000, parts: 500_000, members: 500_000 }

/**
 * JSON of others as a value. Its limits are counted in the bytes, before anything is made of them.
 *
 * @param what names it in messages
 * @throws StrataError `limit_exceeded`; SyntaxError if it is not JSON
 */
export function readJson(bytes: Uint8Array, what: string, limits: JsonLimits): unknown {
  // Each thing that is counted has a byte of its own.
  if (bytes.length > Math.min(limits.depth, limits.parts, limits.members)) expectWithin(bytes, what, limits)
  return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'))
}

function expectWithin(bytes: Uint8Array, what: string, { depth, parts, members }: JsonLimits): void {
  let deep = 0
  let made = 0
  let named = 0
  let inText = false
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]
    if (inText) {
      if (byte === BACKSLASH) at++
      else if (byte === QUOTE) inText = false
    } else if (byte === QUOTE) inText = true
    else if (byte === OPEN_LIST || byte === OPEN_OBJECT) {
      if (++deep > depth)
        throw new StrataError('limit_exceeded', `${what} is nested deeper than ${depth} lists and objects`)
      if (++made > parts) throw new StrataError('limit_exceeded', `${what} has more than ${parts} lists and objects`)
    } else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) deep--
    else if (byte === COLON && ++named > members)
      throw new StrataError('limit_exceeded', `${what} has more than ${members} members of objects`)
  }
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_LIST = 0x5b
const CLOSE_LIST = 0x5d
const OPEN_OBJECT = 0x7b
const COLON = 0x3a
const CLOSE_OBJECT = 0x7d
