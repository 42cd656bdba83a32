import { UNIT, type BodyMemory } from './body-memory.js'
import type { PartPlan } from './part-plan.js'

/**
 * A part of an object, in order. All but the last have the size that the plan says. Its user calls
 * `release` when it has been sent.
 */
export interface Part {
  readonly bytes: readonly Uint8Array[]
  readonly length: number
  release(): void
}

interface PartsOptions {
  readonly memory: BodyMemory
  readonly plan: PartPlan
  /**
   * How many parts the caller may hold before it sends the first of them; 1 if left out. It gets
   * these whatever the process holds.
   */
  readonly heldBack?: number
}

/**
 * A stream in parts. Its chunks are copied, because the source may write over a chunk's memory when
 * the next one is asked for. A source without bytes gives one empty part. Bytes that are in memory
 * already are cut without a copy.
 *
 * If the memory of the process is held by others, a stream goes on behind its first part only after
 * a part of its own is released. So a stream never waits for another one, whose client may stand
 * still.
 */
export async function* partsOf(
  source: AsyncIterable<Uint8Array> | Uint8Array,
  options: PartsOptions,
): AsyncGenerator<Part> {
  if (source instanceof Uint8Array) yield* cut(source, options.plan)
  else yield* gathered(source, options)
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
  { memory, plan, heldBack = 1 }: PartsOptions,
): AsyncGenerator<Part> {
  let buffers: Buffer[] = []
  let length = 0
  let number = 0
  /** The size that the part being filled may have, and how much of it is only promised. */
  let size = 0
  let promised = 0
  /** Parts that were given and not released. */
  let out = 0
  let released = Promise.withResolvers<undefined>()
  const promise = (bytes: number): void => {
    memory.promise(bytes - promised)
    promised = bytes
  }
  const begin = (): void => {
    size = plan(number)
    promise(size)
  }
  const take = async (): Promise<void> => {
    while (out >= heldBack && !memory.hasRoom(UNIT)) await released.promise
    promise(Math.max(promised - UNIT, 0))
    memory.hold(UNIT)
    buffers.push(memory.take())
  }
  /** From here on the buffers belong to the part: `release` gives them back. */
  const finish = (): Part => {
    const taken = buffers
    promise(0)
    const part = partOf(taken, length, () => {
      out--
      memory.release(taken.length * UNIT)
      memory.giveBack(taken)
      released.resolve(undefined)
      released = Promise.withResolvers<undefined>()
    })
    buffers = []
    length = 0
    size = 0
    number++
    out++
    return part
  }
  try {
    begin()
    for await (const chunk of source) {
      for (let at = 0; at < chunk.byteLength;) {
        if (size === 0) begin()
        const place = length % UNIT
        if (place === 0) await take()
        const piece = chunk.subarray(at, at + Math.min(UNIT - place, size - length))
        buffers.at(-1)!.set(piece, place)
        length += piece.byteLength
        at += piece.byteLength
        if (length === size) yield finish()
      }
    }
    if (length > 0 || number === 0) yield finish()
  } finally {
    promise(0)
    memory.release(buffers.length * UNIT)
    memory.giveBack(buffers)
  }
}

function partOf(buffers: readonly Buffer[], length: number, release: () => void): Part {
  const bytes = buffers.map((buffer, at) => buffer.subarray(0, Math.min(UNIT, length - at * UNIT)))
  return { bytes, length, release }
}
