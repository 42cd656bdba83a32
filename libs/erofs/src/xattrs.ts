import { MAX_SHARED, SHARED_ID, XATTR_ENTRY, XATTR_HEADER } from './format.js'
import { ErofsError, type ErofsSource } from './source.js'

/** Name prefixes the format has a number for. The two ACLs are known by the number alone. */
const PREFIXES: readonly (readonly [text: string, id: number, isWhole: boolean])[] = [
  ['user.', 1, false],
  ['system.posix_acl_access', 2, true],
  ['system.posix_acl_default', 3, true],
  ['trusted.', 4, false],
  ['security.', 6, false],
]

/**
 * Extended attributes as EROFS keeps them: those that several inodes have stand once, in an area of
 * their own, and an inode names them by their places there; all others stand behind their inode. An
 * inode names at most 255, in the source's order; what it has beyond is written behind it.
 */
export class SharedXattrs {
  /** By number: where it stands in the area, in units of 4 bytes. */
  readonly #place = new Map<number, number>()
  readonly #order: number[] = []
  #size = 0

  constructor(private readonly source: ErofsSource) {
    const isSeen = new Map<number, boolean>()
    for (let inode = 0; inode < source.inodeCount; inode++) {
      const numbers = source.xattrs(inode)
      for (let at = 0; at < numbers.length; at++) {
        const number = numbers[at]!
        if (isSeen.get(number) === false) this.#share(number)
        isSeen.set(number, isSeen.has(number))
      }
    }
  }

  #share(number: number): void {
    this.#place.set(number, this.#size / SHARED_ID)
    this.#order.push(number)
    this.#size += entrySize(this.source.xattr(number))
  }

  /** Bytes of the area. */
  get size(): number {
    return this.#size
  }

  /** Bytes that stand behind an inode: 0 for one without attributes. */
  sizeOf(inode: number): number {
    const { shared, inline } = this.#partsOf(inode)
    if (shared.length === 0 && inline.length === 0) return 0
    let size = XATTR_HEADER + shared.length * SHARED_ID
    for (const number of inline) size += entrySize(this.source.xattr(number))
    // The inode holds the size in units of 4, less the header, in 16 bits.
    if (countField(size) > 0xffff)
      throw new ErofsError('E2BIG', `an inode has ${size} bytes of extended attributes; EROFS holds 262,144`)
    return size
  }

  /**
   * What stands behind an inode that has attributes (struct erofs_xattr_ibody_header, then the
   * places of shared ones, then the others).
   */
  bytesOf(inode: number): Buffer {
    const { shared, inline } = this.#partsOf(inode)
    const out = Buffer.alloc(this.sizeOf(inode))
    out[4] = shared.length
    let at = XATTR_HEADER
    for (const number of shared) at = out.writeUInt32LE(this.#place.get(number)!, at)
    for (const number of inline) at = putEntry(out, at, this.source.xattr(number))
    return out
  }

  /** The area, an attribute at a time. */
  *area(): Generator<Buffer> {
    for (const number of this.#order) {
      const xattr = this.source.xattr(number)
      const out = Buffer.alloc(entrySize(xattr))
      putEntry(out, 0, xattr)
      yield out
    }
  }

  #partsOf(inode: number): { shared: number[]; inline: number[] } {
    const shared: number[] = []
    const inline: number[] = []
    const numbers = this.source.xattrs(inode)
    for (let at = 0; at < numbers.length; at++) {
      const number = numbers[at]!
      if (shared.length < MAX_SHARED && this.#place.has(number)) shared.push(number)
      else inline.push(number)
    }
    return { shared, inline }
  }
}

/** The inode's own field that tells how many bytes of attributes stand behind it. */
export function countField(size: number): number {
  return size === 0 ? 0 : (size - XATTR_HEADER) / 4 + 1
}

type Xattr = ReturnType<ErofsSource['xattr']>

function entrySize([name, value]: Xattr): number {
  return padded(XATTR_ENTRY + prefixOf(name).suffix.length + value.length)
}

function putEntry(out: Buffer, at: number, [name, value]: Xattr): number {
  const { id, suffix } = prefixOf(name)
  if (suffix.length > 0xff || value.length > 0xffff)
    throw new ErofsError(
      'E2BIG',
      `the extended attribute ${JSON.stringify(suffix.toString('utf8'))} is longer than EROFS can hold`,
    )
  out[at] = suffix.length
  out[at + 1] = id
  out.writeUInt16LE(value.length, at + 2)
  suffix.copy(out, at + XATTR_ENTRY)
  out.set(value, at + XATTR_ENTRY + suffix.length)
  return at + padded(XATTR_ENTRY + suffix.length + value.length)
}

function prefixOf(bytes: Uint8Array): { id: number; suffix: Buffer } {
  const name = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const text = name.toString('latin1')
  for (const [prefix, id, isWhole] of PREFIXES) {
    if (isWhole ? text === prefix : text.startsWith(prefix) && text.length > prefix.length)
      return { id, suffix: name.subarray(prefix.length) }
  }
  throw new ErofsError('EINVAL', `EROFS has no room for an extended attribute named ${JSON.stringify(text)}`)
}

function padded(size: number): number {
  return (size + 3) & ~3
}
