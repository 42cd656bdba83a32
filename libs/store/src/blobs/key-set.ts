import { hash } from 'node:crypto'

/** 32-bit words that stand for one text: the first 128 bits of its SHA-256. */
const WORDS = 4
const FIRST_SLOTS = 1_024

/**
 * A set of texts in 22 to 43 bytes each, where a `Set` takes some 150 for the key of an object. It
 * knows their digests alone, so it cannot be listed. That two texts of a store have one digest of
 * 128 bits is as good as impossible, and nobody can find two that have.
 */
export class KeySet {
  /** Open addressing with linear probing. A slot is free if its first word is 0. */
  #slots = new Uint32Array(FIRST_SLOTS * WORDS)
  #size = 0
  readonly #sought = new Uint32Array(WORDS)

  get size(): number {
    return this.#size
  }

  add(text: string): void {
    const at = this.#find(text)
    if (this.#slots[at] !== 0) return
    this.#slots.set(this.#sought, at)
    this.#size++
    if (4 * WORDS * this.#size > 3 * this.#slots.length) this.#grow()
  }

  has(text: string): boolean {
    return this.#slots[this.#find(text)] !== 0
  }

  delete(text: string): void {
    let free = this.#find(text)
    if (this.#slots[free] === 0) return
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
  }

  /** Where the text is, or the free slot for it. Leaves its words in `#sought`. */
  #find(text: string): number {
    const digest = hash('sha256', text, 'buffer')
    for (let word = 0; word < WORDS; word++) this.#sought[word] = digest.readUInt32LE(4 * word)
    this.#sought[0] ||= 1
    return this.#search(this.#sought)
  }

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
