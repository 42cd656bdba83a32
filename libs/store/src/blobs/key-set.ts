import { hash } from 'node:crypto'

/** 32-bit words that stand for one text: the first 128 bits of its SHA-256. */
const WORDS = 4
/**
 * A set is in so many parts, each of which grows by itself: to copy a set of three million texts at
 * once takes half a second, in which nothing else of the process runs.
 */
const PARTS = 256
const FIRST_SLOTS = 16

/**
 * A set of texts in 22 to 43 bytes each, where a `Set` takes some 150 for the key of an object. It
 * knows their digests alone, so it cannot be listed. That two texts of a store have one digest of
 * 128 bits is as good as impossible, and nobody can find two that have.
 */
export class KeySet {
  readonly #parts = Array.from({ length: PARTS }, () => new Part())
  readonly #sought = new Uint32Array(WORDS)
  #size = 0

  get size(): number {
    return this.#size
  }

  add(text: string): void {
    if (this.#partOf(text).add(this.#sought)) this.#size++
  }

  has(text: string): boolean {
    return this.#partOf(text).has(this.#sought)
  }

  delete(text: string): void {
    if (this.#partOf(text).delete(this.#sought)) this.#size--
  }

  /** Leaves the text's words in `#sought`. */
  #partOf(text: string): Part {
    const digest = hash('sha256', text, 'buffer')
    for (let word = 0; word < WORDS; word++) this.#sought[word] = digest.readUInt32LE(4 * word)
    this.#sought[0] ||= 1
    return this.#parts[this.#sought[1]! % PARTS]!
  }
}

/** Open addressing with linear probing. A slot is free if its first word is 0. */
class Part {
  #slots = new Uint32Array(FIRST_SLOTS * WORDS)
  #size = 0

  /** `false`: it was there. */
  add(words: Uint32Array): boolean {
    const at = this.#search(words)
    if (this.#slots[at] !== 0) return false
    this.#slots.set(words, at)
    this.#size++
    if (4 * WORDS * this.#size > 3 * this.#slots.length) this.#grow()
    return true
  }

  has(words: Uint32Array): boolean {
    return this.#slots[this.#search(words)] !== 0
  }

  /** `false`: it was not there. */
  delete(words: Uint32Array): boolean {
    let free = this.#search(words)
    if (this.#slots[free] === 0) return false
    this.#size--
    // A search ends at a free slot. So each text behind the freed slot that was displaced moves up.
    for (let at = this.#after(free); this.#slots[at] !== 0; at = this.#after(at)) {
      const home = this.#home(this.#slots[at]!)
      const isBetween = free <= at ? free < home && home <= at : free < home || home <= at
      if (isBetween) continue
      this.#slots.copyWithin(free, at, at + WORDS)
      free = at
    }
    this.#slots.fill(0, free, free + WORDS)
    return true
  }

  /** Where the text with these words is, or the free slot for it. */
  #search(words: Uint32Array): number {
    let at = this.#home(words[0]!)
    while (this.#slots[at] !== 0 && !this.#isAt(at, words)) at = this.#after(at)
    return at
  }

  #isAt(at: number, words: Uint32Array): boolean {
    for (let word = 0; word < WORDS; word++) if (this.#slots[at + word] !== words[word]) return false
    return true
  }

  /** The number of slots is a power of two. */
  #home(firstWord: number): number {
    return (firstWord & (this.#slots.length / WORDS - 1)) * WORDS
  }

  #after(at: number): number {
    return (at + WORDS) % this.#slots.length
  }

  #grow(): void {
    const old = this.#slots
    this.#slots = new Uint32Array(2 * old.length)
    for (let at = 0; at < old.length; at += WORDS) {
      const words = old.subarray(at, at + WORDS)
      if (words[0] !== 0) this.#slots.set(words, this.#search(words))
    }
  }
}
