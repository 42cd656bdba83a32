import { addressOf, bind, type NativeType } from '../libc.js'

/**
 * `end`: the frame ends here, all of it is made. `damaged`: it is none, or needs a larger window.
 */
export type Decoded = 'more' | 'end' | 'damaged'

/**
 * zstd's `ZSTD_decompressStream`, in this thread and into memory that is the caller's; any number
 * of frames one after another, skippable ones too.
 *
 * It is the zstd that Node has within and whose symbols it exports, as with `Inflater`; the calls
 * and buffers are those of zstd.h (1.4 and later), with the sizes of 64-bit Linux.
 */
export class ZstdDecoder implements Disposable {
  readonly #context: number
  readonly #in = Buffer.alloc(BUFFER.size)
  readonly #out = Buffer.alloc(BUFFER.size)
  // zstd has no more than their addresses.
  #input: Buffer = NOTHING
  #output: Buffer = NOTHING

  /**
   * `maxWindowLog`: two to the power of this is the largest window, which is memory that a frame
   * may ask for.
   */
  constructor(maxWindowLog: number) {
    this.#context = createContext()
    if (this.#context === 0) throw new Error('zstd cannot begin: it has no memory')
    if (setParameter(this.#context, ZSTD_d_windowLogMax, maxWindowLog) !== 0)
      throw new Error(`zstd knows no windows of 2^${maxWindowLog} bytes`)
  }

  /** What comes next; whatever was left of the piece before is forgotten. */
  set input(piece: Buffer) {
    this.#input = piece
    point(this.#in, piece)
  }

  /** Bytes of the input that are not taken yet. */
  get left(): number {
    return this.#input.length - this.#in.readUInt32LE(BUFFER.position)
  }

  /** Where what is made goes to, from its beginning. */
  set output(buffer: Buffer) {
    this.#output = buffer
    point(this.#out, buffer)
  }

  /** Bytes of the output that are made. */
  get made(): number {
    return this.#out.readUInt32LE(BUFFER.position)
  }

  /** Then there may be more to make without more input, if the frame goes on. */
  get isFull(): boolean {
    return this.made === this.#output.length
  }

  /** Until the input is taken, the output is full, or the frame ends. */
  decode(): Decoded {
    const result = decompressStream(this.#context, this.#out, this.#in)
    if (result < 0) return 'damaged'
    return result === 0 ? 'end' : 'more'
  }

  [Symbol.dispose](): void {
    freeContext(this.#context)
  }
}

function point(at: Buffer, buffer: Buffer): void {
  at.writeBigUInt64LE(addressOf(buffer), BUFFER.address)
  at.writeUInt32LE(buffer.length, BUFFER.length)
  at.writeUInt32LE(0, BUFFER.position)
}

const NOTHING = Buffer.alloc(0)
/** ZSTD_inBuffer and ZSTD_outBuffer. */
const BUFFER = { address: 0, length: 8, position: 16, size: 24 } as const
const ZSTD_d_windowLogMax = 100

const ofNode = (name: string, args: NativeType[], result: NativeType) => bind(name, args, result, null)
const createContext = ofNode('ZSTD_createDCtx', [], 'ulong')
const setParameter = ofNode('ZSTD_DCtx_setParameter', ['ulong', 'int', 'int'], 'int')
// A size_t: bytes that it would like to have next, some 128 KiB at most; an error is a small
// negative number.
const decompressStream = ofNode('ZSTD_decompressStream', ['ulong', 'ptr', 'ptr'], 'int')
const freeContext = ofNode('ZSTD_freeDCtx', ['ulong'], 'int')
