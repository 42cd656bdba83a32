/**
 * One thread fills slots, two threads read them: the body's way into the intake. A slot is free
 * when both have passed it; that is the backpressure, down to the client.
 *
 * Slots are filled to the brim, so every 512-byte header, of the archive or of a layer in it, lies
 * whole in one slot. An empty slot is the end.
 *
 * A pair of readers serves many bodies in turns. `pause` ends a turn before the body's end: the
 * last slot is then cut at a multiple of 512 bytes, the bytes behind the cut begin the next turn,
 * and a slot of the length `PAUSED` tells the readers.
 *
 * Words: how many slots were filled, and passed by each reader. A waiter sleeps on a word's value,
 * so whoever gives up changes the words that others may sleep on: `abort` makes `filled` negative
 * for the readers.
 */
const SLOT_SIZE = 1024 * 1024
const SLOTS = 8
/** A header's size, of the archive and of the layers in it. */
const BLOCK = 512
const GIVEN_UP = -1
/**
 * What `fill` of a `RingFiller` gives where the turn is to end; the length of the slot that ends
 * it.
 */
export const PAUSED = -1
const WORD = { filled: 0, written: 1, hashed: 2, entries: 3, indexes: 4, yield: 5, lengths: 6 } as const
const WORDS_SIZE = 4 * (WORD.lengths + SLOTS)
/** What a reader has passed when nobody waits for it any more. */
const ALL = 0x3fffffff

export type Reader = 'written' | 'hashed'

export function createRing(): SharedArrayBuffer {
  return new SharedArrayBuffer(SLOTS * SLOT_SIZE + WORDS_SIZE)
}

function wordsOf(ring: SharedArrayBuffer): Int32Array<SharedArrayBuffer> {
  return new Int32Array(ring, SLOTS * SLOT_SIZE, WORD.lengths + SLOTS)
}

/** The filling side. It never blocks its thread. */
export class RingWriter {
  readonly #words: Int32Array<SharedArrayBuffer>
  readonly #slots: Uint8Array
  #filled = 0
  #at = 0

  constructor(ring: SharedArrayBuffer) {
    this.#words = wordsOf(ring)
    this.#slots = new Uint8Array(ring, 0, SLOTS * SLOT_SIZE)
    this.#words.fill(0)
  }

  /**
   * Copies a piece in. A promise is returned only if there was no room for all of it; until it is
   * done, nothing else may be written.
   */
  write(piece: Uint8Array): Promise<void> | undefined {
    const copied = this.#copy(piece, 0)
    return copied === piece.length ? undefined : this.#writeRest(piece, copied)
  }

  async end(): Promise<void> {
    if (this.#at > 0) {
      await this.#room()
      this.#publish()
    }
    await this.#room()
    this.#publish()
  }

  /**
   * Ends the turn, not the body: readers stop when they have read what was written. Gives the bytes
   * that did not fill a block (less than 512): they are to be written first in the next turn.
   */
  async pause(): Promise<Uint8Array> {
    const from = (this.#filled % SLOTS) * SLOT_SIZE + this.#at - (this.#at % BLOCK)
    const rest = this.#slots.slice(from, from + (this.#at % BLOCK))
    this.#at -= rest.length
    if (this.#at > 0) this.#publish()
    await this.#room()
    this.#at = PAUSED
    this.#publish()
    return rest
  }

  /** Asks a `RingFiller` to end the turn: others wait for the pair. */
  yield(): void {
    Atomics.store(this.#words, WORD.yield, 1)
  }

  /** Readers stop at once, at whatever they wait for. */
  abort(): void {
    for (const [word, value] of [
      [WORD.filled, GIVEN_UP],
      [WORD.written, ALL],
      [WORD.hashed, ALL],
      [WORD.indexes, ALL],
    ] as const) {
      Atomics.store(this.#words, word, value)
      Atomics.notify(this.#words, word)
    }
  }

  /** How many entries the hashing reader has met. */
  get entries(): number {
    return Atomics.load(this.#words, WORD.entries)
  }

  /** One index less on its way. */
  indexStored(): void {
    Atomics.sub(this.#words, WORD.indexes, 1)
    Atomics.notify(this.#words, WORD.indexes)
  }

  async #writeRest(piece: Uint8Array, from: number): Promise<void> {
    for (let at = from; at < piece.length; at = this.#copy(piece, at)) await this.#room()
  }

  #copy(piece: Uint8Array, from: number): number {
    let at = from
    while (at < piece.length && this.#isFree()) {
      const part = Math.min(piece.length - at, SLOT_SIZE - this.#at)
      this.#slots.set(
        at === 0 && part === piece.length ? piece : piece.subarray(at, at + part),
        (this.#filled % SLOTS) * SLOT_SIZE + this.#at,
      )
      at += part
      this.#at += part
      if (this.#at === SLOT_SIZE) this.#publish()
    }
    return at
  }

  #publish(): void {
    this.#words[WORD.lengths + (this.#filled % SLOTS)] = this.#at
    this.#at = 0
    this.#filled++
    // After an abort the word must stay as it is, or a reader that is late would go on.
    Atomics.compareExchange(this.#words, WORD.filled, this.#filled - 1, this.#filled)
    Atomics.notify(this.#words, WORD.filled)
  }

  #isFree(): boolean {
    return (
      this.#filled - Math.min(Atomics.load(this.#words, WORD.written), Atomics.load(this.#words, WORD.hashed)) < SLOTS
    )
  }

  async #room(): Promise<void> {
    for (const word of [WORD.written, WORD.hashed]) {
      for (;;) {
        const passed = Atomics.load(this.#words, word)
        if (this.#filled - passed < SLOTS) break
        await Atomics.waitAsync(this.#words, word, passed).value
      }
    }
  }
}

/** The writer gave up: another part of the intake failed, or nobody wants it any more. */
export class RingAborted extends Error {}

/** A reading side that leaves its thread to others while it waits. */
export class AsyncRingReader {
  readonly #words: Int32Array<SharedArrayBuffer>

  constructor(
    private readonly ring: SharedArrayBuffer,
    private readonly reader: Reader,
  ) {
    this.#words = wordsOf(ring)
  }

  /**
   * Hands over what comes, a slot at a time, until the end (true) or a pause (false). A view is
   * valid until what `each` gave is done.
   */
  async read(each: (view: Buffer) => Promise<void> | undefined): Promise<boolean> {
    for (let passed = 0; ; passed++) {
      await this.#filled(passed)
      const slot = passed % SLOTS
      const length = this.#words[WORD.lengths + slot]!
      if (length === 0 || length === PAUSED) return length === 0
      await each(Buffer.from(this.ring, slot * SLOT_SIZE, length))
      Atomics.add(this.#words, WORD[this.reader], 1)
      Atomics.notify(this.#words, WORD[this.reader])
    }
  }

  async #filled(passed: number): Promise<void> {
    for (;;) {
      const value = Atomics.load(this.#words, WORD.filled)
      if (value === GIVEN_UP) throw new RingAborted()
      if (value !== passed) return
      await Atomics.waitAsync(this.#words, WORD.filled, value).value
    }
  }
}

/** A reading side: it blocks its thread, so it lives in a worker. */
export class RingReader {
  readonly #words: Int32Array<SharedArrayBuffer>
  readonly #slots: Buffer[]

  constructor(
    ring: SharedArrayBuffer,
    private readonly reader: Reader,
  ) {
    this.#words = wordsOf(ring)
    this.#slots = Array.from({ length: SLOTS }, (_, i) => Buffer.from(ring, i * SLOT_SIZE, SLOT_SIZE))
  }

  /**
   * Hands over what comes, a slot at a time, until the end (true) or a pause (false). A view is
   * valid during its call.
   */
  read(each: (view: Buffer) => void): boolean {
    for (let passed = 0; ; passed++) {
      waitWhile(this.#words, WORD.filled, (filled) => filled === passed)
      const slot = passed % SLOTS
      const length = this.#words[WORD.lengths + slot]!
      if (length === 0 || length === PAUSED) return length === 0
      each(length === SLOT_SIZE ? this.#slots[slot]! : this.#slots[slot]!.subarray(0, length))
      Atomics.add(this.#words, WORD[this.reader], 1)
      Atomics.notify(this.#words, WORD[this.reader])
    }
  }

  countEntry(): void {
    Atomics.add(this.#words, WORD.entries, 1)
  }

  /** Before an index is sent: at most two are on their way, for each may be large. */
  indexLeaves(): void {
    waitWhile(this.#words, WORD.indexes, (onTheWay) => onTheWay >= 2)
    Atomics.add(this.#words, WORD.indexes, 1)
  }
}

/**
 * The writing reader as the one that fills: its thread takes the bytes from where they come by
 * itself.
 */
export class RingFiller {
  readonly #words: Int32Array<SharedArrayBuffer>

  constructor(private readonly ring: SharedArrayBuffer) {
    this.#words = wordsOf(ring)
  }

  /**
   * `fill` puts bytes at the beginning of the room it is given, and says how many; 0 = no more
   * come, `PAUSED` = no more in this turn. They are handed to `each` a share of a slot at a time,
   * for while this thread is busy with them the sender's buffer, a fraction of a slot, runs full;
   * the other reader is shown whole slots.
   *
   * Gives what a paused turn leaves: less than a block, which begins the next turn. `undefined`:
   * the body is at its end.
   */
  run(fill: (room: Buffer) => number, each: (view: Buffer) => void): Uint8Array | undefined {
    for (let filled = 0; ;) {
      this.#room(filled)
      const slot = Buffer.from(this.ring, (filled % SLOTS) * SLOT_SIZE, SLOT_SIZE)
      const { length, last } = fillUp(slot, fill, each)
      const whole = last === PAUSED ? length - (length % BLOCK) : length
      const rest = new Uint8Array(slot.subarray(whole, length))
      if (whole > 0) this.#publish(filled++, whole)
      if (last > 0) continue
      this.#room(filled)
      this.#publish(filled, last)
      return last === PAUSED ? rest : undefined
    }
  }

  /** Whether the turn should end soon: others wait for the pair. */
  get isWanted(): boolean {
    return Atomics.load(this.#words, WORD.yield) !== 0
  }

  /** @throws RingAborted */
  throwIfAborted(): void {
    if (Atomics.load(this.#words, WORD.filled) === GIVEN_UP) throw new RingAborted()
  }

  #room(filled: number): void {
    waitWhile(this.#words, WORD.hashed, (hashed) => filled - hashed >= SLOTS)
  }

  #publish(filled: number, length: number): void {
    this.#words[WORD.lengths + (filled % SLOTS)] = length
    // After an abort the word must stay as it is, or a reader that is late would go on.
    Atomics.compareExchange(this.#words, WORD.filled, filled, filled + 1)
    Atomics.notify(this.#words, WORD.filled)
  }
}

const SHARE = SLOT_SIZE / 4

/**
 * Fills the slot as far as `fill` does. `last`: what it gave last, so a positive number where the
 * slot is full.
 */
function fillUp(
  slot: Buffer,
  fill: (room: Buffer) => number,
  each: (view: Buffer) => void,
): { length: number; last: number } {
  let handed = 0
  for (let at = 0; ;) {
    const last = fill(slot.subarray(at))
    at += Math.max(0, last)
    const isOver = last <= 0 || at === slot.length
    // Whole blocks only, for a pause may follow: what does not fill a block is handed over again in
    // the next turn.
    const whole = last === 0 ? at : at - (at % BLOCK)
    if (whole > handed && (isOver || whole - handed >= SHARE)) {
      each(slot.subarray(handed, whole))
      handed = whole
    }
    if (isOver) return { length: at, last }
  }
}

function waitWhile(words: Int32Array<SharedArrayBuffer>, word: number, isEarly: (value: number) => boolean): void {
  for (;;) {
    const value = Atomics.load(words, word)
    if (Atomics.load(words, WORD.filled) === GIVEN_UP) throw new RingAborted()
    if (!isEarly(value)) return
    Atomics.wait(words, word, value)
  }
}
