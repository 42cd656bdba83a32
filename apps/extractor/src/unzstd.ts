import { MAX_WINDOW_LOG, RATIO_FREE, tooLarge } from '@strata/archive'
import { ZstdDecoder } from '@strata/linux'
import { StrataError } from '@strata/base'
import { Chunks } from './chunks.js'

/**
 * A zstd layer's blob unpacked in this thread. Pieces in, plain bytes out, as the law of
 * `decompressor` (@strata/archive) has it: any number of frames, skippable ones too, windows up to
 * 128 MiB; anything else is `layer_invalid`, as is an end inside a frame.
 */
export class Unzstd implements Disposable {
  readonly #decoder = new ZstdDecoder(MAX_WINDOW_LOG)
  readonly #chunks = new Chunks()
  #isInside = true
  /** Packed bytes before the piece that is in work. */
  #before = 0

  constructor(private readonly options: { readonly maxRatio: number }) {
    this.#decoder.output = this.#chunks.current
  }

  /**
   * What a piece adds, in full chunks. A chunk is its reader's until he asks for the next but one.
   */
  *take(piece: Buffer): Generator<Buffer> {
    const decoder = this.#decoder
    decoder.input = piece
    for (let holds = false; decoder.left > 0 || holds;) {
      const result = decoder.decode()
      if (result === 'damaged') throw damaged('is damaged')
      this.#isInside = result === 'more'
      const taken = this.#before + piece.length - decoder.left
      const made = this.#chunks.out + decoder.made
      if (made > RATIO_FREE && made > taken * this.options.maxRatio) throw tooLarge('layer', this.options.maxRatio)
      holds = decoder.isFull && this.#isInside
      if (decoder.isFull) yield this.#handOut()
    }
    this.#before += piece.length
  }

  /** The rest. */
  *end(): Generator<Buffer> {
    if (this.#decoder.made > 0) yield this.#handOut()
    if (this.#isInside) throw damaged('is cut short')
  }

  [Symbol.dispose](): void {
    this.#decoder[Symbol.dispose]()
    this.#chunks[Symbol.dispose]()
  }

  #handOut(): Buffer {
    const chunk = this.#chunks.handOut(this.#decoder.made)
    this.#decoder.output = this.#chunks.current
    return chunk
  }
}

function damaged(how: string): StrataError {
  return new StrataError('layer_invalid', `the layer's zstd stream ${how}`)
}
