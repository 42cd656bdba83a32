import { RingAborted } from './ring.js'

const WORD = { stopped: 0, indexes: 1, next: 2, entries: 3 } as const
const WORDS_AT = 8

/**
 * What the threads that take a file in have in common: who does what next, how far all are, and
 * whether it is over. Whoever waits looks again often, so nobody has to be woken.
 */
export class FileControl {
  readonly #words: Int32Array<SharedArrayBuffer>
  readonly #counted: BigInt64Array<SharedArrayBuffer>

  constructor(readonly memory: SharedArrayBuffer = new SharedArrayBuffer(WORDS_AT + 4 * Object.keys(WORD).length)) {
    this.#counted = new BigInt64Array(memory, 0, 1)
    this.#words = new Int32Array(memory, WORDS_AT)
  }

  /** The threads stop within a piece's time. */
  stop(): void {
    Atomics.store(this.#words, WORD.stopped, 1)
  }

  /** @throws RingAborted */
  throwIfStopped(): void {
    if (Atomics.load(this.#words, WORD.stopped) !== 0) throw new RingAborted()
  }

  /** The next number that nobody has: 0, 1, 2, … */
  claim(): number {
    return Atomics.add(this.#words, WORD.next, 1)
  }

  /** Bytes of the archive's files that are where they belong. */
  get bytes(): number {
    return Number(Atomics.load(this.#counted, 0))
  }
  countBytes(bytes: number): void {
    Atomics.add(this.#counted, 0, BigInt(bytes))
  }

  get entries(): number {
    return Atomics.load(this.#words, WORD.entries)
  }
  countEntry(): void {
    Atomics.add(this.#words, WORD.entries, 1)
  }

  /**
   * Before an index is sent: a thread goes on only when few are on their way, for each may be
   * large.
   */
  indexLeaves(): void {
    this.waitWhile(this.#words, WORD.indexes, (onTheWay) => onTheWay >= 2)
    Atomics.add(this.#words, WORD.indexes, 1)
  }
  indexStored(): void {
    Atomics.sub(this.#words, WORD.indexes, 1)
    Atomics.notify(this.#words, WORD.indexes)
  }

  /** Sleeps until another thread has changed the word. @throws RingAborted */
  waitWhile(words: Int32Array<SharedArrayBuffer>, at: number, isEarly: (value: number) => boolean): void {
    for (;;) {
      this.throwIfStopped()
      const value = Atomics.load(words, at)
      if (!isEarly(value)) return
      Atomics.wait(words, at, value, LOOK_AGAIN_MS)
    }
  }
}

const LOOK_AGAIN_MS = 50
