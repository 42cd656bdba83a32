import { StrataError } from '@strata/base'
import type { Taken, Task } from './source.js'
import { PACE_BYTES, PACE_MS, SLICE_MS } from './pace.js'
import type { ReaderSession } from '../threads/readers.js'
import type { RingWriter } from '../threads/ring.js'
import { RingRun, type TurnEnd } from '../threads/ring-run.js'

/** A turn that is open: the ring takes what comes. */
interface OpenTurn {
  readonly ring: RingWriter
  readonly since: number
  /** No more is written in this turn. */
  finish(): void
  /** Bytes since the clock looked last. */
  flowed: number
  /** Whether we kept the client waiting since then: then it is not the client that is slow. */
  wasFull: boolean
  isFull: boolean
  mustPause: boolean
}

/**
 * A body's bytes on their way from the main thread to the threads: gathered until a turn is worth
 * it, then straight into the ring for as long as they flow.
 *
 *     await feed.write(piece)     // undefined: go on at once
 *     const taken = await feed.end()
 *     await feed.close()          // always
 */
export class Feed {
  readonly #run: RingRun
  #gathered: Buffer | undefined
  #length = 0
  #turn: OpenTurn | undefined
  /** Of the newest turn, also before it is open. */
  #over: Promise<TurnEnd> | undefined
  #isClosed = false
  #pausing: Promise<void> | undefined
  #clock: NodeJS.Timeout | undefined

  constructor(
    session: ReaderSession,
    private readonly task: Task,
  ) {
    this.#run = new RingRun(session, task)
  }

  get entries(): number {
    return this.#run.entries
  }

  /** One piece at a time. It is copied when this is done. */
  write(piece: Uint8Array): Promise<void> | undefined {
    if (this.#pausing) return this.#pausing.then(() => this.write(piece))
    const turn = this.#turn
    if (!turn) {
      if (this.#length + piece.length < PACE_BYTES) return this.#gather(piece)
      return this.#begin().then(() => this.write(piece))
    }
    turn.flowed += piece.length
    const full = turn.ring.write(piece)
    if (full === undefined) return turn.mustPause ? this.#pause(turn) : undefined
    turn.isFull = turn.wasFull = true
    return full.then(() => {
      turn.isFull = false
      return turn.mustPause ? this.#pause(turn) : undefined
    })
  }

  /** The body is at its end. */
  async end(): Promise<Omit<Taken, 'bytes'>> {
    await this.#pausing
    const turn = this.#turn ?? (await this.#begin())
    clearInterval(this.#clock)
    await turn.ring.end()
    turn.finish()
    const end = await this.#over!
    if ('taken' in end) return end.taken
    throw new StrataError('internal', 'the intake paused at the end of a body')
  }

  /** Done when no turn is open. What failed has been told already. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#clock)
    this.#turn?.finish()
    await this.#over?.catch(() => undefined)
    await this.#pausing
  }

  #gather(piece: Uint8Array): undefined {
    this.#gathered ??= Buffer.allocUnsafe(PACE_BYTES)
    this.#gathered.set(piece, this.#length)
    this.#length += piece.length
  }

  #begin(): Promise<OpenTurn> {
    const begun = Promise.withResolvers<OpenTurn>()
    const finished = Promise.withResolvers()
    const over = this.#run.turn(async (ring) => {
      const gathered = this.#gathered?.subarray(0, this.#length)
      this.#length = 0
      if (gathered) await ring.write(gathered)
      if (this.#isClosed) return
      this.#turn = {
        ring,
        since: performance.now(),
        finish: () => finished.resolve(undefined),
        flowed: 0,
        wasFull: false,
        isFull: false,
        mustPause: false,
      }
      this.#clock = setInterval(() => this.#look(), PACE_MS)
      begun.resolve(this.#turn)
      await finished.promise
    })
    this.#over = over
    over.catch((error: unknown) => begun.reject(error instanceof Error ? error : new Error(String(error))))
    return begun.promise
  }

  /** Ends a turn whose client is slow, or which has lasted while others wait. */
  #look(): void {
    const turn = this.#turn
    if (!turn) return
    const isSlow = !turn.wasFull && turn.flowed < PACE_BYTES
    const isLong = performance.now() - turn.since >= SLICE_MS && this.#run.isWanted
    turn.flowed = 0
    turn.wasFull = turn.isFull
    if (!isSlow && !isLong) return
    if (turn.isFull) turn.mustPause = true
    else void this.#pause(turn)
  }

  #pause(turn: OpenTurn): Promise<void> {
    clearInterval(this.#clock)
    this.#turn = undefined
    this.#pausing = this.#endTurn(turn)
      // Whatever writes next rejects by the same failure.
      .catch((error: unknown) => this.task.fail(error))
      .finally(() => (this.#pausing = undefined))
    return this.#pausing
  }

  async #endTurn(turn: OpenTurn): Promise<void> {
    try {
      this.#gather(await turn.ring.pause())
    } finally {
      turn.finish()
    }
    await this.#over
  }
}
