import { expectIndexMemory, workShare } from '@strata/archive'
import { StrataError } from '@strata/base'

const MIB = 2 ** 20
/** An index under construction takes so much at a time: threads share the counter. */
const STEP = MIB

/** A part of the budget as a thread is given it: shared memory, so a message can carry it. */
export interface SharedMemory {
  /** Bytes that all have who share the limit. */
  readonly taken: SharedArrayBuffer
  /** Bytes that this one of them has. */
  readonly own: SharedArrayBuffer
  readonly limit: number
}

/** Memory that was taken from the budget. Disposing of it gives it back; twice is once. */
export interface MemoryLease extends Disposable {
  /** For the thread that builds an index in it (`GrowingMemory`). */
  readonly shared: SharedMemory
}

/**
 * The memory that indexes of layers may take in this process, in all its threads and services
 * together (`STRATA_INDEX_MEMORY`). Three quarters are for the work: extracting layers and
 * assembling roots. One quarter is for uploads, whose layers are indexed while they come in.
 *
 * Laws:
 * - Whoever needs an amount that is known takes it before he reads anything (`take`). He waits in
 *   line, the first come first, and holds nothing meanwhile: nobody waits in a circle. More than
 *   the share is refused at once.
 * - An index under construction grows (`grow`, `GrowingMemory`). It never waits, for it holds
 *   memory already. If there is no room its builder fails with `overloaded`; its caller gives back
 *   what it has and takes the most that it can need.
 * - Nobody waits for an upload, since its client decides how long it lasts. An upload that finds no
 *   room goes on without an index, and an extractor makes the index.
 *
 * @example
 * using memory = await indexMemory.take(stackMemory(bytes), 'the image …', signal)
 */
export class IndexMemory {
  static #ofProcess: IndexMemory | undefined

  readonly #taken = new SharedArrayBuffer(8)
  readonly #uploads = new SharedArrayBuffer(8)
  /** Looks for room for one who waits; the first is next. */
  readonly #line: (() => void)[] = []

  /** @param budget in bytes */
  constructor(private readonly budget: number) {}

  /** The one of this process. Its services have one environment, so the first one sets the size. */
  static ofProcess(mebibytes: number): IndexMemory {
    return (IndexMemory.#ofProcess ??= new IndexMemory(mebibytes * MIB))
  }

  /** The most that one stack or one layer can have, in bytes. */
  get largest(): number {
    return workShare(this.budget)
  }

  /** Bytes that extractions and assemblies have now. */
  get taken(): number {
    return Number(Atomics.load(counter(this.#taken), 0))
  }

  /**
   * @param what needs the memory, in a sentence: `the image sha256:…`
   * @throws StrataError `limit_exceeded` for more than there is, `cancelled` if the signal aborts
   */
  async take(bytes: number, what: string, signal?: AbortSignal): Promise<MemoryLease> {
    expectIndexMemory(bytes, what, this.budget)
    if (signal?.aborted) throw cancelled()
    if (this.#line.length > 0 || !this.#hasTaken(bytes)) await this.#inLine(bytes, signal)
    const shared = { taken: new SharedArrayBuffer(8), own: new SharedArrayBuffer(8), limit: bytes }
    return { shared, [Symbol.dispose]: once(() => this.#giveBack(bytes)) }
  }

  /** Memory for one index whose size nobody knows yet. */
  grow(): MemoryLease {
    const shared = { taken: this.#taken, own: new SharedArrayBuffer(8), limit: this.largest }
    const held = (): number => Number(Atomics.load(counter(shared.own), 0))
    return { shared, [Symbol.dispose]: once(() => this.#giveBack(held())) }
  }

  /** Memory for what one thread indexes of uploads. To be disposed of when the thread has ended. */
  uploads(): MemoryLease {
    const shared = { taken: this.#uploads, own: new SharedArrayBuffer(8), limit: this.budget - this.largest }
    return { shared, [Symbol.dispose]: once(() => giveBack(shared, Number(Atomics.load(counter(shared.own), 0)))) }
  }

  async #inLine(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<undefined>()
    const look = (): void => {
      if (this.#hasTaken(bytes)) leave(() => resolve(undefined))
    }
    const leave = (settle: () => void): void => {
      this.#line.splice(this.#line.indexOf(look), 1)
      signal?.removeEventListener('abort', onAbort)
      settle()
      this.#serve()
    }
    const onAbort = (): void => leave(() => reject(cancelled()))
    this.#line.push(look)
    signal?.addEventListener('abort', onAbort)
    return promise
  }

  #hasTaken(bytes: number): boolean {
    return reserve(this.#taken, bytes, this.largest)
  }

  #serve(): void {
    this.#line[0]?.()
  }

  #giveBack(bytes: number): void {
    Atomics.sub(counter(this.#taken), 0, BigInt(bytes))
    this.#serve()
  }
}

/** In the thread that builds an index: memory that becomes more with it. */
export class GrowingMemory {
  #size = 0

  constructor(private readonly shared: SharedMemory) {}

  /** Makes it at least so large. False if there is no room: then it is as large as before. */
  reach(bytes: number): boolean {
    if (bytes <= this.#size) return true
    const { taken, own, limit } = this.shared
    const size = Math.ceil(bytes / STEP) * STEP
    if (!reserve(taken, size - this.#size, limit)) return false
    Atomics.add(counter(own), 0, BigInt(size - this.#size))
    this.#size = size
    return true
  }

  /** Gives all of it back. It may grow again. */
  release(): void {
    giveBack(this.shared, this.#size)
    this.#size = 0
  }
}

function counter(memory: SharedArrayBuffer): BigInt64Array<SharedArrayBuffer> {
  return new BigInt64Array(memory)
}

/** All of it or nothing: what does not fit is never counted, so it cannot turn another away. */
function reserve(memory: SharedArrayBuffer, bytes: number, limit: number): boolean {
  const taken = counter(memory)
  for (let before = Atomics.load(taken, 0); ;) {
    const after = before + BigInt(bytes)
    if (after > BigInt(limit)) return false
    const found = Atomics.compareExchange(taken, 0, before, after)
    if (found === before) return true
    before = found
  }
}

function giveBack({ taken, own }: SharedMemory, bytes: number): void {
  Atomics.sub(counter(own), 0, BigInt(bytes))
  Atomics.sub(counter(taken), 0, BigInt(bytes))
}

function once(work: () => void): () => void {
  let isDone = false
  return () => {
    if (isDone) return
    isDone = true
    work()
  }
}

function cancelled(): StrataError {
  return new StrataError('cancelled', 'cancelled while waiting for memory for indexes')
}
