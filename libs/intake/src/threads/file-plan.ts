import type { Algorithm } from '@strata/oci'
import type { FileControl } from './file-control.js'
import { LARGE } from '../destinations/placement.js'

/**
 * A large file is worked on in pieces of this size, so that a second thread can take some of them.
 */
export const PIECE = 1024 * 1024

/** A file of the archive: where it lies there, and where it goes. */
export interface PlannedFile {
  /** Its entry's number. */
  readonly entry: number
  readonly source: number
  readonly size: number
  /** The offset in the object of small files; a large file has an object of its own. */
  readonly target: number
  readonly algorithm: Algorithm
}

const FIELDS = 6
const ALGORITHMS: readonly Algorithm[] = ['sha256', 'sha512']
const STATE = { waiting: 0, open: 1 } as const
const PIECE_STATE = { free: 0, taken: 1, done: 2 } as const

/**
 * The files of an archive, the largest first, and who has which piece of the large ones, in memory
 * that all threads share.
 *
 * `owner` of a file is who claimed its number; it goes through the pieces from the first on. Who
 * has nothing else to do takes pieces from the last one down. A piece is taken once; an owner that
 * finds one taken waits until it is done.
 */
export class FilePlan {
  readonly #table: Float64Array<SharedArrayBuffer>
  readonly #states: Int32Array<SharedArrayBuffer>
  readonly length: number

  static of(files: PlannedFile[]): FilePlan {
    files.sort((a, b) => b.size - a.size || a.entry - b.entry)
    const pieces = files.reduce((sum, { size }) => sum + piecesOf(size), 0)
    const memory = new SharedArrayBuffer(8 + files.length * FIELDS * 8 + (files.length + pieces) * 4)
    new Float64Array(memory, 0, 1)[0] = files.length
    const plan = new FilePlan(memory)
    let firstPiece = files.length
    for (const [i, { entry, source, size, target, algorithm }] of files.entries()) {
      plan.#table.set([entry, source, size, target, ALGORITHMS.indexOf(algorithm), firstPiece], i * FIELDS)
      firstPiece += piecesOf(size)
    }
    return plan
  }

  constructor(readonly memory: SharedArrayBuffer) {
    this.length = new Float64Array(memory, 0, 1)[0]!
    this.#table = new Float64Array(memory, 8, this.length * FIELDS)
    this.#states = new Int32Array(memory, 8 + this.length * FIELDS * 8)
  }

  file(i: number): PlannedFile {
    const [entry, source, size, target, algorithm] = this.#table.subarray(i * FIELDS, (i + 1) * FIELDS) as unknown as [
      number,
      number,
      number,
      number,
      number,
    ]
    return { entry, source, size, target, algorithm: ALGORITHMS[algorithm]! }
  }

  pieces(i: number): number {
    return piecesOf(this.file(i).size)
  }

  /** The owner has made the file's object: others may help. */
  opened(i: number): void {
    Atomics.store(this.#states, i, STATE.open)
    Atomics.notify(this.#states, i)
  }

  waitUntilOpen(i: number, control: FileControl): void {
    control.waitWhile(this.#states, i, (state) => state === STATE.waiting)
  }

  /** False: another thread has it. */
  take(i: number, piece: number): boolean {
    return (
      Atomics.compareExchange(this.#states, this.#word(i, piece), PIECE_STATE.free, PIECE_STATE.taken) ===
      PIECE_STATE.free
    )
  }

  done(i: number, piece: number): void {
    Atomics.store(this.#states, this.#word(i, piece), PIECE_STATE.done)
    Atomics.notify(this.#states, this.#word(i, piece))
  }

  waitUntilDone(i: number, piece: number, control: FileControl): void {
    control.waitWhile(this.#states, this.#word(i, piece), (state) => state === PIECE_STATE.taken)
  }

  #word(i: number, piece: number): number {
    return this.#table[i * FIELDS + 5]! + piece
  }
}

/** 0: the file is one of the small. */
function piecesOf(size: number): number {
  return size < LARGE ? 0 : Math.ceil(size / PIECE)
}
