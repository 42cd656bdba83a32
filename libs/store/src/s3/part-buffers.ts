/** As large as a part: fewer, larger requests make no upload faster (docs/performance.md), and this much is held for each that is on its way. 10,000 of them are an object of 78 GiB. */
export const PART_SIZE = 8 * 1024 * 1024
/** As many as two streams use at once. One that is dropped is memory until the next collection, so what is kept is less than what is not. */
const KEPT = 8

/** Buffers of one part each, used again: what the streams of a process take does not grow with what goes through them. */
export class PartBuffers {
  readonly #free: Buffer[] = []

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(PART_SIZE)
  }

  giveBack(buffer: Buffer): void {
    if (this.#free.length < KEPT) this.#free.push(buffer)
  }
}

/** Bytes of an object, in order, all but the last of one size. Whoever is done with them calls `release`. */
export interface Part {
  readonly bytes: Uint8Array
  release(): void
}

/**
 * A stream in parts. Its chunks are copied, for who makes them may use their memory again as soon as the next one is asked for; a source of no bytes is one empty
 * part. Bytes that are at hand anyway are cut as they are.
 */
export async function* partsOf(source: AsyncIterable<Uint8Array> | Uint8Array, buffers: PartBuffers): AsyncGenerator<Part> {
  if (source instanceof Uint8Array) {
    for (let at = 0; at === 0 || at < source.byteLength; at += PART_SIZE) yield { bytes: source.subarray(at, at + PART_SIZE), release: () => undefined }
    return
  }
  let buffer: Buffer | undefined
  let filled = 0
  let parts = 0
  const partOf = (bytes: Buffer, length: number): Part => ({ bytes: bytes.subarray(0, length), release: () => buffers.giveBack(bytes) })
  try {
    for await (const chunk of source) {
      for (let at = 0; at < chunk.byteLength; ) {
        buffer ??= buffers.take()
        const piece = chunk.subarray(at, at + PART_SIZE - filled)
        buffer.set(piece, filled)
        filled += piece.byteLength
        at += piece.byteLength
        if (filled < PART_SIZE) continue
        // From here it is the part's: `release` gives it back.
        const full = buffer
        buffer = undefined
        filled = 0
        parts++
        yield partOf(full, PART_SIZE)
      }
    }
    const last = buffer
    buffer = undefined
    if (last) yield partOf(last, filled)
    else if (parts === 0) yield { bytes: new Uint8Array(), release: () => undefined }
  } finally {
    if (buffer) buffers.giveBack(buffer)
  }
}
