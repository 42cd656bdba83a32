import { deflateRawSync } from 'node:zlib'
import { encodeCheckpoints, RATIO_FREE, tooLarge, type NewCheckpoint } from '@strata/archive'
import { Inflater } from '@strata/linux'
import { StrataError } from '@strata/base'
import { CHUNK, Chunks } from './chunks.js'

/**
 * Bytes of the tar from one checkpoint to the next, at least: then the next block is taken, and
 * blocks have some 100 KiB.
 */
const INTERVAL = 3 * 1024 * 1024

/**
 * A gzip layer's blob unpacked in this thread, with the places from which that can begin again,
 * which cost nothing to find: zlib tells where a block begins. Pieces in, plain bytes out, as the
 * law of `decompressor` (@strata/archive) has it: any number of members, zeros behind the last are
 * ignored, anything else there is `layer_invalid`, as is an end inside a member.
 */
export class Gunzip implements Disposable {
  readonly #inflater = new Inflater()
  readonly #found: NewCheckpoint[] = []
  readonly #chunks = new Chunks()
  #state: 'between members' | 'in a member' | 'behind all' = 'between members'
  /** Packed bytes before the piece that is in work. */
  #before = 0

  constructor(private readonly options: { readonly maxRatio: number; readonly findsCheckpoints: boolean }) {
    this.#inflater.output = this.#chunks.current
  }

  /**
   * What a piece adds, in full chunks. A chunk is its reader's until he asks for the next but one.
   */
  *take(piece: Buffer): Generator<Buffer> {
    const inflater = this.#inflater
    inflater.input = piece
    // zlib may hold more where the chunk was full.
    for (let wasFull = false; inflater.left > 0 || wasFull;) {
      if (this.#state === 'between members' && inflater.left > 0) this.#begin(piece)
      if (this.#state !== 'in a member') break
      this.#step(piece.length)
      wasFull = inflater.made === CHUNK
      if (wasFull) yield this.#handOut()
    }
    this.#before += piece.length
  }

  /** The rest. */
  *end(): Generator<Buffer> {
    if (this.#inflater.made > 0) yield this.#handOut()
    if (this.#state === 'in a member' || this.#before === 0) throw damaged('is cut short')
  }

  /** All that were found, as they are kept; nothing if there is no use of it. */
  checkpoints(): Buffer | undefined {
    return this.#found.length === 0 ? undefined : encodeCheckpoints(this.#found)
  }

  [Symbol.dispose](): void {
    this.#inflater[Symbol.dispose]()
    this.#chunks[Symbol.dispose]()
  }

  #begin(piece: Buffer): void {
    const at = piece.length - this.#inflater.left
    if (piece[at] === 0) {
      this.#state = 'behind all'
      return
    }
    // Nobody goes on from one member's block into the next member.
    const last = this.#found.at(-1)
    if (this.#isDue || (last !== undefined && last.window.length > 0))
      this.#note({ packed: this.#before + at, bit: 0 }, NOTHING)
    this.#state = 'in a member'
  }

  #step(length: number): void {
    const inflater = this.#inflater
    const isDue = this.#isDue
    const result = inflater.inflate({ toBlock: isDue })
    const taken = this.#before + length - inflater.left
    const made = this.#chunks.out + inflater.made
    if (made > RATIO_FREE && made > (this.#before + length) * this.options.maxRatio)
      throw tooLarge('layer', this.options.maxRatio)
    if (result === 'damaged') throw damaged('is damaged')
    if (result === 'end') {
      this.#state = 'between members'
      inflater.reset()
      return
    }
    const bits = isDue ? inflater.blockBits : undefined
    if (bits === undefined) return
    const place = bits === 0 ? { packed: taken, bit: 0 } : { packed: taken - 1, bit: 8 - bits }
    this.#note(place, deflateRawSync(inflater.window(), { level: 1 }))
  }

  get #isDue(): boolean {
    return (
      this.options.findsCheckpoints &&
      this.#chunks.out + this.#inflater.made - (this.#found.at(-1)?.out ?? 0) >= INTERVAL
    )
  }

  #note(place: Pick<NewCheckpoint, 'packed' | 'bit'>, window: Buffer): void {
    this.#found.push({ ...place, out: this.#chunks.out + this.#inflater.made, window })
  }

  #handOut(): Buffer {
    const chunk = this.#chunks.handOut(this.#inflater.made)
    this.#inflater.output = this.#chunks.current
    return chunk
  }
}

const NOTHING = Buffer.alloc(0)

function damaged(how: string): StrataError {
  return new StrataError('layer_invalid', `the layer's gzip stream ${how}`)
}
