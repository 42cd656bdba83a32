import { UNIT, type PartPlan } from './part-plan.js'

/**
 * As many buffers as two streams use at the same time. A buffer that is dropped stays in memory
 * until the next garbage collection, so keeping these takes less memory than dropping them.
 */
const KEPT = 8

/**
 * Buffers of one unit each that are used again. So the memory that a process needs for streams does
 * not grow with their bytes.
 */
export class PartBuffers {
  readonly #free: Buffer[] = []

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(UNIT)
  }

  giveBack(buffers: readonly Buffer[]): void {
    for (const buffer of buffers) if (this.#free.length < KEPT) this.#free.push(buffer)
  }
}

/**
 * A part of an object, in order. All but the last have the size that the plan says. Its user calls
 * `release` when it has been sent.
 */
export interface Part {
  readonly bytes: readonly Uint8Array[]
  readonly length: number
  release(): void
}

/**
 * A stream in parts. Its chunks are copied, because the source may write over a chunk's memory when
 * the next one is asked for. A source without bytes gives one empty part. Bytes that are in memory
 * already are cut without a copy.
 */
export async function* partsOf(
  source: AsyncIterable<Uint8Array> | Uint8Array,
  buffers: PartBuffers,
  plan: PartPlan,
): AsyncGenerator<Part> {
  if (source instanceof Uint8Array) yield* cut(source, plan)
  else yield* gathered(source, buffers, plan)
}

function* cut(source: Uint8Array, plan: PartPlan): Generator<Part> {
  let at = 0
  for (let number = 0; number === 0 || at < source.byteLength; number++) {
    const piece = source.subarray(at, at + plan(number))
    at += piece.byteLength
    yield { bytes: [piece], length: piece.byteLength, release: () => undefined }
  }
}

async function* gathered(
  source: AsyncIterable<Uint8Array>,
  buffers: PartBuffers,
  plan: PartPlan,
): AsyncGenerator<Part> {
  let held: Buffer[] = []
  let length = 0
  let number = 0
  /** From here on the buffers belong to the part: `release` gives them back. */
  const finish = (): Part => {
    const part = partOf(held, length, buffers)
    held = []
    length = 0
    number++
    return part
  }
  try {
    for await (const chunk of source) {
      for (let at = 0; at < chunk.byteLength;) {
        const place = length % UNIT
        if (place === 0) held.push(buffers.take())
        const piece = chunk.subarray(at, at + Math.min(UNIT - place, plan(number) - length))
        held.at(-1)!.set(piece, place)
        length += piece.byteLength
        at += piece.byteLength
        if (length === plan(number)) yield finish()
      }
    }
    if (length > 0 || number === 0) yield finish()
  } finally {
    buffers.giveBack(held)
  }
}

function partOf(held: readonly Buffer[], length: number, buffers: PartBuffers): Part {
  const bytes = held.map((buffer, at) => buffer.subarray(0, Math.min(UNIT, length - at * UNIT)))
  return { bytes, length, release: () => buffers.giveBack(held) }
}
