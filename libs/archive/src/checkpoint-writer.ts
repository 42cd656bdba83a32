import { createHash, type Hash } from 'node:crypto'
import { constants, deflateRawSync, inflateRawSync } from 'node:zlib'
import { encodeCheckpoints, type NewCheckpoint } from './checkpoints.js'
import { findBlock } from './deflate-blocks.js'
import { WINDOW, shiftedBits } from './inflate-from.js'

/** Bytes of the tar from one checkpoint to the next, at least. A window costs up to 32 KiB: under 1 % of this. */
const INTERVAL = 4 * 1024 * 1024
/** Packed bytes that go through at once: as much as a place may be looked for in. */
const PIECE = 128 * 1024
/** Packed bytes that are unpacked from a place found, to see whether they give what the whole stream gives. */
const TRIED = 16 * 1024

/** A place that was found, until it is proven. */
interface Candidate {
  readonly bit: number
  /** The packed bytes up to here are the last that stand before it. */
  readonly byte: number
  readonly behind: Buffer
  out: number
  window: Buffer
  /** What it gives, as far as it was tried. */
  expected: Buffer
  /** Of the tar up to it, since the checkpoint before. */
  before: Hash
}

/**
 * Finds checkpoints while a gzip layer is unpacked in one pass: it sees the packed bytes before the decompressor (`cut`), is told what that has done with them (`consumed`), and sees the tar behind it (`output`).
 *
 * zlib does not tell where blocks begin, so in a gzip stream they are looked for by their headers. What looks like one may be a stored piece of another stream, so each place is tried: from there, with the window of what came
 * before, the next bytes must come out as they do in the whole stream.
 */
export class CheckpointWriter {
  readonly #found: NewCheckpoint[] = []
  #candidate: Candidate | undefined
  #hash: Hash | undefined
  /** Bytes of the tar that came by, and the last of them. */
  #seen = 0
  #tail: Buffer[] = []
  #lastOut = 0
  /** What is known to have come out, a little behind. */
  #out = 0

  /** The packed bytes, which come in pieces of some tens of KiB or more, divided so that each candidate begins in the last byte of a piece or right behind it. */
  async *cut(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    let position = 0
    for await (const whole of pieces) {
      for (let start = 0; start < whole.length; start += PIECE) {
        const piece = whole.subarray(start, start + PIECE)
        const cut = this.#look(piece, position)
        if (cut > 0) yield piece.subarray(0, cut)
        if (cut < piece.length) yield piece.subarray(cut)
        position += piece.length
      }
    }
  }

  /** The decompressor has taken all of the first `bytesIn`, and made `bytesOut` of them. */
  consumed(bytesIn: number, bytesOut: number): void {
    this.#out = bytesOut
    const candidate = this.#candidate
    if (candidate?.byte !== bytesIn) return
    candidate.out = bytesOut
    if (this.#seen === bytesOut) this.#reached(candidate)
  }

  output(piece: Buffer): void {
    for (let at = 0; at < piece.length; ) {
      const part = piece.subarray(at, at + this.#nextStop() - this.#seen)
      at += part.length
      this.#take(part)
    }
  }

  /** The next byte of the tar at which something is to be done. */
  #nextStop(): number {
    const { out, expected } = this.#candidate ?? { out: Infinity, expected: NOTHING }
    return out > this.#seen ? out : out + expected.length
  }

  /** All that was found; nothing if there is no use of it. */
  finish(): Buffer | undefined {
    const last = this.#hash?.digest()
    return last && encodeCheckpoints(this.#found.map((point, at) => ({ ...point, sha256: this.#found[at + 1]?.sha256 ?? last })))
  }

  /** Where in the piece to cut it, 0 for nowhere. */
  #look(piece: Buffer, position: number): number {
    if (this.#candidate || this.#out - this.#lastOut < INTERVAL) return 0
    const bit = findBlock(piece, 1, 8 * (piece.length - TRIED))
    if (bit === undefined) return 0
    const cut = Math.ceil(bit / 8)
    const behind = shiftedBits(piece.subarray(bit >>> 3, (bit >>> 3) + TRIED), bit & 7)
    this.#candidate = { bit: 8 * position + bit, byte: position + cut, behind, out: Infinity, window: NOTHING, expected: NOTHING, before: createHash('sha256') }
    return cut
  }

  #take(part: Buffer): void {
    this.#hash?.update(part)
    const candidate = this.#candidate
    const isTried = candidate !== undefined && this.#seen >= candidate.out
    if (isTried && !this.#isAsExpected(candidate, part)) this.#candidate = undefined
    this.#seen += part.length
    this.#keep(part)
    if (candidate && this.#seen === candidate.out) this.#reached(candidate)
    if (this.#candidate && isTried && this.#seen === candidate.out + candidate.expected.length) this.#accept(candidate)
  }

  #isAsExpected({ out, expected }: Candidate, part: Buffer): boolean {
    const at = this.#seen - out
    return expected.subarray(at, at + part.length).equals(part)
  }

  /** The tar is where the candidate is: what would come from there? */
  #reached(candidate: Candidate): void {
    const tail = Buffer.concat(this.#tail)
    candidate.window = tail.subarray(Math.max(0, tail.length - WINDOW))
    candidate.before = this.#hash?.copy() ?? createHash('sha256')
    candidate.expected = tried(candidate.behind, candidate.window) ?? tried(candidate.behind.subarray(0, TRIED / 16), candidate.window) ?? NOTHING
    if (candidate.expected.length === 0) this.#candidate = undefined
  }

  #accept({ bit, out, window, before, expected }: Candidate): void {
    // Each row holds, until the end, the hash of what is before it.
    this.#found.push({ bit, out, window: deflateRawSync(window, { level: 1 }), sha256: before.digest() })
    this.#hash = createHash('sha256').update(expected)
    this.#lastOut = out
    this.#candidate = undefined
  }

  #keep(part: Buffer): void {
    this.#tail.push(part)
    let length = this.#tail.reduce((sum, each) => sum + each.length, 0)
    while (length - this.#tail[0]!.length >= WINDOW) length -= this.#tail.shift()!.length
  }
}

const NOTHING = Buffer.alloc(0)

/** Nothing for what is no deflate stream, or is too much to be compared. */
function tried(packed: Buffer, window: Buffer): Buffer | undefined {
  try {
    return inflateRawSync(packed, { dictionary: window, finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: INTERVAL })
  } catch {
    return undefined
  }
}
