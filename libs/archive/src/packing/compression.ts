import { Duplex, PassThrough, type Transform } from 'node:stream'
import { constants, createGunzip, createZstdDecompress } from 'node:zlib'
import { StrataError, type ErrorCode } from '@strata/base'
import { type Compression } from '@strata/oci'

/** Enough of a stream's beginning for `detectCompression`. */
export const COMPRESSION_HEAD = 4

/**
 * By content: gzip (RFC 1952), zstd (RFC 8878; a skippable frame may come first). Everything else
 * is `none`.
 */
export function detectCompression(head: Uint8Array): Compression {
  const [a, b, c, d] = head
  if (a === 0x1f && b === 0x8b) return 'gzip'
  if (a === 0x28 && b === 0xb5 && c === 0x2f && d === 0xfd) return 'zstd'
  if (a !== undefined && (a & 0xf0) === 0x50 && b === 0x2a && c === 0x4d && d === 0x18) return 'zstd'
  return 'none'
}

export interface DecompressorOptions {
  /**
   * What is being unpacked: a layer's faults are `layer_invalid`, an archive's `archive_truncated`
   * and `archive_invalid`.
   */
  readonly of?: 'layer' | 'archive'
  /** Bytes out for each byte in. */
  readonly maxRatio?: number
}

/** Little enough to be no bomb: a small file of zeros packs far beyond any ratio. */
export const RATIO_FREE = 16 * 1024 * 1024
/** Of zstd's windows: 128 MiB. */
export const MAX_WINDOW_LOG = 27
/** Each member costs a decoder, and the smallest has 9 bytes. */
const MAX_MEMBERS = 1_000_000
export const CHUNK = 1024 * 1024
export const MAX_RATIO = 1000

export function tooLarge(what: string, ratio: number): StrataError {
  return new StrataError('limit_exceeded', `the ${what} unpacks to more than ${ratio} times its size`)
}

/**
 * Packed bytes in, plain bytes out, off the main thread. Any number of gzip members or zstd frames
 * one after another; zstd windows up to 128 MiB. Zeros behind the last gzip member are ignored as
 * gzip(1) does, anything else there is an error. The end of the input inside a member is an error
 * (`of`), and so is more output than `maxRatio` (1000) times the input: `limit_exceeded`.
 */
export function decompressor(compression: Compression, options: DecompressorOptions = {}): Duplex {
  return compression === 'none' ? new PassThrough() : new Decompressor(compression, options)
}

type Inner = Transform & { readonly bytesWritten: number }

/**
 * Node's own streams do not do: its zstd stream ends silently after the first frame if another
 * follows in the same piece (Node 24), and none of them counts. So each frame gets a decoder, and
 * what one leaves of a piece goes to the next.
 */
class Decompressor extends Duplex {
  readonly #of: 'layer' | 'archive'
  readonly #maxRatio: number
  #inner: Inner
  /** Bytes given to `inner` before the piece it is at. */
  #given = 0
  #pending: { piece: Buffer; done: (error?: Error) => void } | undefined
  #finished: ((error?: Error) => void) | undefined
  #members = 0
  #bytesIn = 0
  #bytesOut = 0
  #isPadding = false

  constructor(
    private readonly compression: 'gzip' | 'zstd',
    options: DecompressorOptions,
  ) {
    super({ readableHighWaterMark: CHUNK, writableHighWaterMark: CHUNK })
    this.#of = options.of ?? 'layer'
    this.#maxRatio = options.maxRatio ?? MAX_RATIO
    this.#inner = this.#open()
  }

  override _write(piece: Buffer, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    this.#bytesIn += piece.length
    if (this.#isPadding) done()
    else this.#feed(piece, done)
  }

  override _final(done: (error?: Error) => void): void {
    if (this.#isPadding) return this.#ended(done)
    this.#finished = done
    this.#inner.end()
  }

  override _read(): void {
    this.#inner.resume()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#inner.destroy()
    done(error)
  }

  #open(): Inner {
    if (++this.#members > MAX_MEMBERS)
      throw new StrataError('limit_exceeded', `a ${this.compression} stream has more than ${MAX_MEMBERS} members`)
    const inner =
      this.compression === 'gzip'
        ? createGunzip({ chunkSize: CHUNK })
        : createZstdDecompress({ chunkSize: CHUNK, params: { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG } })
    inner.on('data', (chunk: Buffer) => {
      this.#bytesOut += chunk.length
      if (this.#bytesOut > RATIO_FREE && this.#bytesOut > this.#bytesIn * this.#maxRatio) {
        this.destroy(tooLarge(this.#of, this.#maxRatio))
      } else if (!this.push(chunk)) inner.pause()
    })
    inner.on('error', (error) => this.destroy(this.#fault(error)))
    inner.on('end', () => this.#memberEnd())
    this.#given = 0
    return inner
  }

  #feed(piece: Buffer, done: (error?: Error) => void): void {
    const inner = this.#inner
    this.#pending = { piece, done }
    inner.write(piece, () => {
      if (this.#pending?.piece !== piece || inner !== this.#inner) return
      // a member ended within: its 'end' goes on from here
      if (inner.bytesWritten - this.#given < piece.length) return
      this.#given += piece.length
      this.#pending = undefined
      done()
    })
  }

  #memberEnd(): void {
    const pending = this.#pending
    const finished = this.#finished
    if (pending === undefined) {
      if (finished) this.#ended(finished)
      return
    }
    const rest = pending.piece.subarray(this.#inner.bytesWritten - this.#given)
    this.#pending = undefined
    if (this.compression === 'gzip') {
      // Node's gunzip goes on by itself, unless what follows is zero.
      this.#isPadding = true
      return pending.done()
    }
    this.#inner.destroy()
    try {
      this.#inner = this.#open()
    } catch (error) {
      return pending.done(error as Error)
    }
    this.#feed(rest, pending.done)
  }

  #ended(done: (error?: Error) => void): void {
    this.push(null)
    done()
  }

  #fault(error: Error): StrataError {
    const isCut = 'code' in error && error.code === 'Z_BUF_ERROR'
    const code: ErrorCode = this.#of === 'layer' ? 'layer_invalid' : isCut ? 'archive_truncated' : 'archive_invalid'
    return new StrataError(
      code,
      `the ${this.#of}'s ${this.compression} stream is ${isCut ? 'cut short' : `damaged: ${error.message}`}`,
      { cause: error },
    )
  }
}
