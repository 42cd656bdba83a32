import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'

/** Characters of JSON that are packed together: packing them takes a millisecond. */
const PACKED_AT_ONCE = 256 * 1024

/**
 * A list of JSON values that is only written and read from its beginning. It is held as packed
 * text: a record of a blob takes some 150 bytes instead of 1,500.
 */
export class PackedList<T> implements Iterable<T> {
  readonly #packed: Buffer[] = []
  #last: string[] = []
  #lastLength = 0

  push(item: T): void {
    const text = JSON.stringify(item)
    this.#last.push(text)
    this.#lastLength += text.length
    if (this.#lastLength < PACKED_AT_ONCE) return
    this.#packed.push(zstdCompressSync(this.#last.join('\n')))
    this.#last = []
    this.#lastLength = 0
  }

  get isEmpty(): boolean {
    return this.#packed.length === 0 && this.#last.length === 0
  }

  *[Symbol.iterator](): Generator<T> {
    for (const packed of this.#packed)
      for (const text of zstdDecompressSync(packed).toString().split('\n')) yield JSON.parse(text) as T
    for (const text of this.#last) yield JSON.parse(text) as T
  }
}
