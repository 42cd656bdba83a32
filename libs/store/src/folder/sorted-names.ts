/** A change moves at most so many names. */
const MOST_IN_CHUNK = 1_024
/** What a name takes beside its characters: a header and a place in an array. */
const NAME_BYTES = 32

/**
 * A set of ASCII names in the order of their bytes. A change costs the same in a set of any size.
 */
export class SortedNames {
  /** No chunk is empty, and all names of a chunk come before those of the next one. */
  readonly #chunks: string[][] = []
  #bytes = 0
  #size = 0

  /** @param sorted may have a name twice: readdir gives one that was made again meanwhile twice */
  constructor(sorted: readonly string[]) {
    const names = sorted.filter((name, at) => name !== sorted[at - 1])
    for (let at = 0; at < names.length; at += MOST_IN_CHUNK / 2)
      this.#chunks.push(names.slice(at, at + MOST_IN_CHUNK / 2))
    this.#size = names.length
    for (const name of names) this.#bytes += NAME_BYTES + name.length
  }

  /** How many names there are. */
  get size(): number {
    return this.#size
  }

  /** About as much memory as the names take. */
  get bytes(): number {
    return this.#bytes
  }

  add(name: string): void {
    if (this.#chunks.length === 0) this.#chunks.push([])
    const number = this.#chunkOf(name)
    const chunk = this.#chunks[number]!
    const at = placeOf(chunk, name)
    if (chunk[at] === name) return
    chunk.splice(at, 0, name)
    if (chunk.length > MOST_IN_CHUNK) this.#chunks.splice(number + 1, 0, chunk.splice(MOST_IN_CHUNK / 2))
    this.#bytes += NAME_BYTES + name.length
    this.#size++
  }

  delete(name: string): void {
    const number = this.#chunkOf(name)
    const chunk = this.#chunks[number] ?? []
    const at = placeOf(chunk, name)
    if (chunk[at] !== name) return
    chunk.splice(at, 1)
    if (chunk.length === 0) this.#chunks.splice(number, 1)
    this.#bytes -= NAME_BYTES + name.length
    this.#size--
  }

  /** At most `count` names that are `from` or come behind it. */
  from(from: string, count: number): string[] {
    const names: string[] = []
    for (let number = this.#chunkOf(from); number < this.#chunks.length && names.length < count; number++) {
      const chunk = this.#chunks[number]!
      const at = placeOf(chunk, from)
      names.push(...chunk.slice(at, at + count - names.length))
    }
    return names
  }

  /** The last chunk that begins with `name` or before it; else the first. */
  #chunkOf(name: string): number {
    let [low, high] = [0, this.#chunks.length]
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if (this.#chunks[middle]![0]! <= name) low = middle
      else high = middle
    }
    return low
  }
}

/** Where `name` is in sorted names, or would be. */
function placeOf(names: readonly string[], name: string): number {
  let [low, high] = [0, names.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (names[middle]! < name) low = middle + 1
    else high = middle
  }
  return low
}
