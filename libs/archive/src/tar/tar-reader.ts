import { StrataError } from '@strata/base'
import { ENTRY, NO_XATTRS, TAR_LIMITS, TarEntry, type EntryType, type TarLimits, type TarSink } from './tar-entry.js'
import { BLOCK, checkHeader, parseHeader, parseNumber } from './tar-header.js'
import { applyAttributes, ownXattrs, parsePax, type PaxRecords } from './tar-pax.js'
import { oldSparseExtension, oldSparseHeader, SparseMapReader, sparsePieces } from './tar-sparse.js'

/**
 * An extended header, a long name or a sparse map is gathered in memory; none may be larger than
 * this.
 */
const MAX_GATHERED = 1024 * 1024

/** What the next whole block is, or what the next bytes are. */
const enum State {
  header,
  oldSparseExtension,
  sparseMap,
  gather,
  data,
  skip,
  padding,
  end,
}

const FLAG = {
  x: 0x78,
  solarisX: 0x58,
  g: 0x67,
  longName: 0x4c,
  longLink: 0x4b,
  sparse: 0x53,
  volume: 0x56,
  dumpDirectory: 0x44,
} as const
const TYPES: Readonly<Record<number, EntryType>> = {
  0x00: ENTRY.file,
  0x30: ENTRY.file,
  0x37: ENTRY.file,
  [FLAG.sparse]: ENTRY.file,
  0x31: ENTRY.hardlink,
  0x32: ENTRY.symlink,
  0x33: ENTRY.char,
  0x34: ENTRY.block,
  0x35: ENTRY.directory,
  0x36: ENTRY.fifo,
}

/**
 * A push parser of tar, for outer archives and layers alike: v7, ustar, pax (local and global), GNU
 * long names, base-256, GNU sparse (old, 0.0, 0.1, 1.0), star. Feed it with `write`, in pieces of
 * any size, then call `end`. A header that lies whole in a piece is read where it lies, data is
 * handed on as views.
 *
 * Laws:
 * - A size in a pax header is that of the file it belongs to, never of a long-name or pax header
 *   that stands between (CVE-2026-53655, CVE-2025-62518).
 * - Links, devices, folders and FIFOs have no data, whatever their size field says. POSIX gives
 *   that field other meanings there (a folder's quota), and Go's reader, which docker, podman and
 *   containerd use, does the same; GNU's skips the bytes for all but hard links. What the engines
 *   see counts.
 * - Type '\0' with a name that ends in a slash is a folder (v7). An unknown type is refused: the
 *   engines refuse it as well.
 * - Two blocks of zeros end the tar, what follows is ignored. An end without them is accepted at an
 *   entry's boundary, also where the last padding lacks.
 *
 * Errors: `archive_truncated`, `archive_invalid`, `limit_exceeded`. After one the reader must not
 * be used again.
 */
export class TarReader {
  readonly #limits: TarLimits
  readonly #entry = new TarEntry()
  readonly #joined = Buffer.alloc(BLOCK)
  readonly #cut = Buffer.alloc(BLOCK)
  readonly #cutView = new DataView(this.#cut.buffer, this.#cut.byteOffset, BLOCK)
  #cutLength = 0

  #state: State = State.header
  /** Bytes before the piece being written. */
  #base = 0
  #remaining = 0
  #padding = 0
  #wanted = false
  #entries = 0
  #seenHeader = false
  #seenZeroBlock = false

  #gathered: Buffer = this.#cut
  #gatheredFlag = 0
  #global: PaxRecords | undefined
  #local: PaxRecords | undefined
  #globalXattrs = NO_XATTRS
  #longName: Buffer | undefined
  #longLink: Buffer | undefined
  #sparseNumbers: number[] = []
  #sparseMap: SparseMapReader | undefined
  #sparseBlocks = 0

  constructor(
    private readonly sink: TarSink,
    limits: Partial<TarLimits> = {},
  ) {
    this.#limits = { ...TAR_LIMITS, ...limits }
  }

  write(chunk: Uint8Array): void {
    const buffer = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength)
    const length = buffer.length
    let at = 0
    while (at < length) {
      switch (this.#state) {
        case State.data: {
          const part = Math.min(this.#remaining, length - at)
          if (this.#wanted) this.sink.data(buffer.subarray(at, at + part))
          at += part
          this.#remaining -= part
          if (this.#remaining === 0) this.#dataEnd()
          break
        }
        case State.skip: {
          const part = Math.min(this.#remaining, length - at)
          at += part
          this.#remaining -= part
          if (this.#remaining === 0) this.#state = this.#padding > 0 ? State.padding : State.header
          break
        }
        case State.padding: {
          const part = Math.min(this.#padding, length - at)
          at += part
          this.#padding -= part
          if (this.#padding === 0) this.#state = State.header
          break
        }
        case State.gather: {
          const part = Math.min(this.#remaining, length - at)
          buffer.copy(this.#gathered, this.#gathered.length - this.#remaining, at, at + part)
          at += part
          this.#remaining -= part
          if (this.#remaining === 0) this.#gatherEnd()
          break
        }
        case State.end:
          at = length
          break
        default:
          if (this.#cutLength === 0 && length - at >= BLOCK) {
            this.#block(buffer, at, view, this.#base + at)
            at += BLOCK
          } else {
            const part = Math.min(BLOCK - this.#cutLength, length - at)
            buffer.copy(this.#cut, this.#cutLength, at, at + part)
            at += part
            this.#cutLength += part
            if (this.#cutLength === BLOCK) {
              this.#cutLength = 0
              this.#block(this.#cut, 0, this.#cutView, this.#base + at - BLOCK)
            }
          }
      }
    }
    this.#base += length
  }

  /**
   * How many of the bytes that come next are looked at by nobody: who reads from a file need not
   * read them. Infinite behind the tar's end.
   */
  get unread(): number {
    if (this.#state === State.end) return Infinity
    if (this.#state === State.skip || (this.#state === State.data && !this.#wanted)) return this.#remaining
    return this.#state === State.padding ? this.#padding : 0
  }

  /** Stands for a `write` of that many bytes, of those that are `unread`. */
  pass(count: number): void {
    this.#base += count
    if (count === 0 || this.#state === State.end) return
    if (this.#state === State.padding) {
      this.#padding -= count
      if (this.#padding === 0) this.#state = State.header
      return
    }
    this.#remaining -= count
    if (this.#remaining > 0) return
    if (this.#state === State.data) this.#dataEnd()
    else this.#state = this.#padding > 0 ? State.padding : State.header
  }

  /**
   * No more bytes come. Throws `archive_truncated` unless the last entry is whole, and
   * `archive_invalid` for input that is too short to be a tar at all.
   */
  end(): void {
    if (this.#base > 0 && this.#base < BLOCK)
      throw new StrataError(
        'archive_invalid',
        `this is not a tar: it has ${this.#base} ${this.#base === 1 ? 'byte' : 'bytes'}, and one header has ${BLOCK}`,
      )
    const isBetweenEntries = this.#state === State.header && this.#cutLength === 0 && !this.#hasPendingExtension()
    const lacksPaddingOnly = this.#state === State.padding && !this.#hasPendingExtension()
    if (this.#state !== State.end && !isBetweenEntries && !lacksPaddingOnly) {
      throw new StrataError('archive_truncated', `the tar ends after ${this.#base} bytes in the middle of an entry`)
    }
  }

  #hasPendingExtension(): boolean {
    return this.#local !== undefined || this.#longName !== undefined || this.#longLink !== undefined
  }

  #block(block: Buffer, at: number, view: DataView, position: number): void {
    if (this.#state === State.oldSparseExtension) return this.#oldSparseBlock(block, at, position)
    if (this.#state === State.sparseMap) return this.#sparseMapBlock(block, at)
    const check = checkHeader(block, at, view)
    if (check === 'zero') {
      if (this.#seenZeroBlock) this.#state = State.end
      this.#seenZeroBlock = true
      return
    }
    if (this.#seenZeroBlock)
      throw new StrataError(
        'archive_invalid',
        `the tar goes on after a lone block of zeros at byte ${position - BLOCK}`,
      )
    if (check === 'bad') {
      throw new StrataError(
        'archive_invalid',
        this.#seenHeader
          ? `the tar header at byte ${position} is damaged: its checksum is wrong`
          : 'this is not a tar: its first block is no tar header',
      )
    }
    this.#seenHeader = true
    const flag = block[at + 156]!
    switch (flag) {
      case FLAG.x:
      case FLAG.solarisX:
      case FLAG.g:
      case FLAG.longName:
      case FLAG.longLink:
        return this.#gather(flag, parseNumber(block, at + 124, 12, 'size'))
      default:
        return this.#header(block, at, flag, position)
    }
  }

  #gather(flag: number, size: number): void {
    if (size < 0) throw new StrataError('archive_invalid', 'a tar extended header has a negative size')
    if (size > MAX_GATHERED)
      throw new StrataError('limit_exceeded', `a tar extended header has ${size} bytes; the limit is ${MAX_GATHERED}`)
    this.#gathered = Buffer.allocUnsafe(size)
    this.#gatheredFlag = flag
    this.#remaining = size
    this.#padding = paddingOf(size)
    this.#state = State.gather
    if (size === 0) this.#gatherEnd()
  }

  #gatherEnd(): void {
    const bytes = this.#gathered
    switch (this.#gatheredFlag) {
      case FLAG.g:
        this.#setGlobal(parsePax(bytes, 'global'))
        break
      case FLAG.longName:
        this.#longName = untilNul(bytes)
        break
      case FLAG.longLink:
        this.#longLink = untilNul(bytes)
        break
      default:
        this.#local = parsePax(bytes, 'local')
    }
    this.#state = this.#padding > 0 ? State.padding : State.header
  }

  /** The list of attributes stays the same array if this header says nothing of them. */
  #setGlobal(records: PaxRecords): void {
    this.#global = { ...this.#global, ...records }
    if (records.xattrs !== undefined) this.#globalXattrs = [...records.xattrs.values()]
  }

  #header(block: Buffer, at: number, flag: number, position: number): void {
    const entry = this.#entry
    const local = this.#local
    parseHeader(block, at, entry, this.#joined)
    entry.globalXattrs = this.#globalXattrs
    entry.ownXattrs = ownXattrs(this.#global?.xattrs, local?.xattrs)
    entry.sparse = undefined
    if (this.#global !== undefined) applyAttributes(entry, this.#global)
    if (local !== undefined) {
      applyAttributes(entry, local)
      if (local.path !== undefined) entry.path = local.path
      if (local.sparse?.name !== undefined) entry.path = local.sparse.name
      if (local.linkpath !== undefined) entry.link = local.linkpath
      if (local.size !== undefined) entry.storedSize = local.size
    }
    if (this.#longName !== undefined) entry.path = this.#longName
    if (this.#longLink !== undefined) entry.link = this.#longLink
    entry.dataOffset = position + BLOCK
    if (entry.storedSize < 0 || !Number.isSafeInteger(entry.dataOffset + entry.storedSize))
      throw this.#invalid('has an impossible size')
    // GNU's volume label is no entry, and its incremental backup's list of a folder is that folder
    // with data nobody needs.
    if (flag === FLAG.volume) return this.#skip(entry.storedSize)
    const type = flag === FLAG.dumpDirectory ? ENTRY.directory : TYPES[flag]
    if (type === undefined) throw this.#invalid(`has the unknown type ${JSON.stringify(String.fromCharCode(flag))}`)
    entry.type = flag === 0 && entry.path[entry.path.length - 1] === 0x2f ? ENTRY.directory : type
    this.#checkLimits()
    if (entry.type !== ENTRY.file) {
      const skipped = flag === FLAG.dumpDirectory ? entry.storedSize : 0
      entry.size = entry.storedSize = 0
      this.#emit()
      if (skipped > 0) this.#skip(skipped)
      return
    }
    entry.size = entry.storedSize
    this.#padding = paddingOf(entry.storedSize)
    if (flag === FLAG.sparse) return this.#oldSparse(block, at)
    if (local?.sparse !== undefined) return this.#paxSparse(local.sparse)
    this.#emit()
  }

  #checkLimits(): void {
    const entry = this.#entry
    const limits = this.#limits
    if (++this.#entries > limits.entries)
      throw new StrataError('limit_exceeded', `the tar has more than ${limits.entries} entries`)
    if (entry.path.length > limits.path || entry.link.length > limits.path) {
      throw new StrataError(
        'limit_exceeded',
        `a tar entry's name or link has more than ${limits.path} bytes: ${this.#shown()}`,
      )
    }
    // A name of n components has at least 2n - 1 bytes, so most need no count.
    if (entry.path.length >= 2 * limits.depth && depthOf(entry.path) > limits.depth) {
      throw new StrataError(
        'limit_exceeded',
        `a tar entry's name has more than ${limits.depth} components: ${this.#shown()}`,
      )
    }
  }

  #oldSparse(block: Buffer, at: number): void {
    const map = oldSparseHeader(block, at)
    this.#sparseNumbers = map.numbers
    this.#sparseBlocks = 0
    this.#entry.size = map.realSize
    if (map.more) this.#awaitMap(State.oldSparseExtension)
    else this.#emitSparse(this.#sparseNumbers)
  }

  #oldSparseBlock(block: Buffer, at: number, position: number): void {
    this.#countSparseBlock()
    this.#entry.dataOffset = position + BLOCK
    if (!oldSparseExtension(block, at, this.#sparseNumbers)) this.#emitSparse(this.#sparseNumbers)
  }

  #paxSparse(sparse: NonNullable<PaxRecords['sparse']>): void {
    const version = `${sparse.major ?? '0'}.${sparse.minor ?? '0'}`
    if (version !== '0.0' && version !== '0.1' && version !== '1.0')
      throw this.#invalid(`is a sparse file of the unknown version ${JSON.stringify(version.slice(0, 20))}`)
    if (sparse.realSize === undefined) throw this.#invalid('is a sparse file without its real size')
    this.#entry.size = sparse.realSize
    if (version !== '1.0') return this.#emitSparse(sparse.numbers)
    this.#sparseMap = new SparseMapReader()
    this.#sparseBlocks = 0
    // The map is part of the stored bytes: a file that is over before its map is not one.
    if (this.#entry.storedSize < BLOCK) throw this.#invalid("lacks its sparse file's map")
    this.#awaitMap(State.sparseMap)
  }

  /** The map may come with another piece, when the views into this one no longer hold. */
  #awaitMap(state: State): void {
    this.#entry.path = Buffer.from(this.#entry.path)
    this.#entry.link = Buffer.from(this.#entry.link)
    this.#state = state
  }

  #sparseMapBlock(block: Buffer, at: number): void {
    const entry = this.#entry
    const sparseMap = this.#sparseMap
    this.#countSparseBlock()
    entry.dataOffset += BLOCK
    entry.storedSize -= BLOCK
    if (sparseMap!.block(block, at)) this.#emitSparse(sparseMap!.numbers)
    else if (entry.storedSize < BLOCK) throw this.#invalid("lacks the end of its sparse file's map")
  }

  #countSparseBlock(): void {
    if (++this.#sparseBlocks * BLOCK > MAX_GATHERED)
      throw new StrataError(
        'limit_exceeded',
        `a sparse file's map has more than ${MAX_GATHERED} bytes: ${this.#shown()}`,
      )
  }

  #emitSparse(numbers: readonly number[]): void {
    const entry = this.#entry
    entry.sparse = sparsePieces(numbers, entry.size, entry.storedSize, entry.dataOffset)
    this.#sparseNumbers = []
    this.#sparseMap = undefined
    this.#emit()
  }

  #emit(): void {
    this.#local = this.#longName = this.#longLink = undefined
    this.#remaining = this.#entry.storedSize
    this.#wanted = this.sink.entry(this.#entry)
    if (this.#remaining > 0) this.#state = State.data
    else this.#dataEnd()
  }

  /** Bytes that are data, but of no entry. */
  #skip(size: number): void {
    this.#local = this.#longName = this.#longLink = undefined
    this.#wanted = false
    this.#padding = paddingOf(size)
    this.#remaining = size
    if (size > 0) this.#state = State.skip
  }

  #dataEnd(): void {
    this.sink.entryEnd()
    this.#state = this.#padding > 0 ? State.padding : State.header
  }

  #invalid(why: string): StrataError {
    return new StrataError('archive_invalid', `the tar entry ${this.#shown()} ${why}`)
  }

  #shown(): string {
    const { path } = this.#entry
    return JSON.stringify(path.toString('utf8', 0, Math.min(path.length, 200)))
  }
}

function paddingOf(size: number): number {
  return (BLOCK - (size % BLOCK)) % BLOCK
}

function untilNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0)
  return end < 0 ? bytes : bytes.subarray(0, end)
}

function depthOf(path: Buffer): number {
  let depth = 0
  for (let i = 0; i < path.length; i++) if (path[i] !== 0x2f && (i === 0 || path[i - 1] === 0x2f)) depth++
  return depth
}
