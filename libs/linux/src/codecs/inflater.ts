import { addressOf, bind, type NativeType } from '../libc.js'

/**
 * What zlib says of a stream, in the words of zlib.h: `end` Z_STREAM_END, `damaged` Z_DATA_ERROR or
 * Z_NEED_DICT.
 */
export type Inflated = 'more' | 'end' | 'damaged'

/**
 * zlib's `inflate` of gzip members, one at a time, in this thread: into memory that is the
 * caller's, and with what Node's own streams keep to themselves: where a deflate block begins.
 *
 * It is the zlib that Node has within and exports for addons (Node.js, "C++ addons", "Linking to
 * libraries included with Node.js"); the calls and `z_stream` are those of zlib.h (1.2 and later),
 * with the sizes of 64-bit Linux.
 */
export class Inflater implements Disposable {
  readonly #stream = Buffer.allocUnsafeSlow(Z_STREAM.size).fill(0)
  // zlib has no more than their addresses.
  #input: Buffer = NOTHING
  #output: Buffer = NOTHING

  constructor() {
    if (inflateInit2(this.#stream, GZIP, Buffer.from('1\0'), Z_STREAM.size) !== Z_OK)
      throw new Error('zlib cannot begin: it has no memory, or another version')
  }

  /** What comes next; whatever was left of the piece before is forgotten. */
  set input(piece: Buffer) {
    this.#input = piece
    this.#stream.writeBigUInt64LE(addressOf(piece), Z_STREAM.nextIn)
    this.#stream.writeUInt32LE(piece.length, Z_STREAM.availIn)
  }

  /** Bytes of the input that are not taken yet. */
  get left(): number {
    return this.#stream.readUInt32LE(Z_STREAM.availIn)
  }

  /** Where what is made goes to, from its beginning. */
  set output(buffer: Buffer) {
    this.#output = buffer
    this.#stream.writeBigUInt64LE(addressOf(buffer), Z_STREAM.nextOut)
    this.#stream.writeUInt32LE(buffer.length, Z_STREAM.availOut)
  }

  /** Bytes of the output that are made. */
  get made(): number {
    return this.#output.length - this.#stream.readUInt32LE(Z_STREAM.availOut)
  }

  /**
   * Until the input is taken, the output is full, the member ends, or a block begins, if that is
   * asked for.
   */
  inflate({ toBlock }: { readonly toBlock: boolean }): Inflated {
    const result = inflate(this.#stream, toBlock ? Z_BLOCK : Z_NO_FLUSH)
    if (result === Z_STREAM_END) return 'end'
    if (result === Z_OK || result === Z_BUF_ERROR) return 'more'
    if (result === Z_DATA_ERROR || result === Z_NEED_DICT) return 'damaged'
    throw new Error(`zlib fails with ${result} on ${this.#input.length} bytes`)
  }

  /**
   * Where a block begins, to be asked after an `inflate` to a block: so many bits of the byte that
   * was taken last are its first ones. 0 if it begins with the byte that comes next, `undefined` if
   * none begins here.
   */
  get blockBits(): number | undefined {
    const type = this.#stream.readInt32LE(Z_STREAM.dataType)
    return (type & (AT_BLOCK | BEHIND_LAST_BLOCK)) === AT_BLOCK ? type & UNUSED_BITS : undefined
  }

  /** The up to 32 KiB of its member that were made last, which a block may refer to. */
  window(): Buffer {
    const window = Buffer.allocUnsafeSlow(32 * 1024)
    const length = Buffer.allocUnsafeSlow(4)
    inflateGetDictionary(this.#stream, window, length)
    return window.subarray(0, length.readUInt32LE(0))
  }

  /** Another member follows. */
  reset(): void {
    inflateReset(this.#stream)
  }

  [Symbol.dispose](): void {
    inflateEnd(this.#stream)
  }
}

const NOTHING = Buffer.alloc(0)
const Z_STREAM = { nextIn: 0, availIn: 8, nextOut: 24, availOut: 32, dataType: 88, size: 112 } as const
/** The largest window, and a gzip header before it. */
const GZIP = 15 + 16
const [Z_NO_FLUSH, Z_BLOCK] = [0, 5]
const [Z_OK, Z_STREAM_END, Z_NEED_DICT, Z_DATA_ERROR, Z_BUF_ERROR] = [0, 1, 2, -3, -5]
/** In `data_type`, after a Z_BLOCK. */
const [AT_BLOCK, BEHIND_LAST_BLOCK, UNUSED_BITS] = [128, 64, 7]

const ofNode = (name: string, ...args: NativeType[]) => bind(name, args, 'int', null)
const inflateInit2 = ofNode('inflateInit2_', 'ptr', 'int', 'ptr', 'int')
const inflate = ofNode('inflate', 'ptr', 'int')
const inflateReset = ofNode('inflateReset', 'ptr')
const inflateGetDictionary = ofNode('inflateGetDictionary', 'ptr', 'ptr', 'ptr')
const inflateEnd = ofNode('inflateEnd', 'ptr')
