import { StrataError } from '@strata/base'
import type { Answer, LayerIndexed, SocketJob } from './messages.js'
import type { Taken, Task } from '../sources/source.js'
import type { ReaderSession, WorkerPair } from './readers.js'
import { RingWriter } from './ring.js'

/**
 * How a turn ended: with the body, or with what the next turn begins with where the writer took the
 * bytes by itself.
 */
export type TurnEnd = { readonly taken: Omit<Taken, 'bytes'> } | { readonly rest: Uint8Array }

/** An archive's way through the ring, turn after turn. */
export class RingRun {
  #entriesBefore = 0
  #ring: RingWriter | undefined

  constructor(
    private readonly session: ReaderSession,
    private readonly task: Task,
  ) {}

  /** Entries of the archive met so far. */
  get entries(): number {
    return this.#entriesBefore + (this.#ring?.entries ?? 0)
  }

  /**
   * A turn, from when a pair is there until it is done with it, well or badly. `fill` puts bytes
   * in, and ends or pauses the ring; where the writer takes them from its socket, it waits for
   * nothing.
   */
  turn(fill: (ring: RingWriter) => Promise<void> | undefined, socket?: SocketJob): Promise<TurnEnd> {
    const { stop, waiting } = this.task
    return this.session.turn(stop, waiting, (pair) => this.#run(pair, fill, socket))
  }

  /** Whether others wait for the pair, so that a turn that is long should end. */
  get isWanted(): boolean {
    return this.session.isWanted
  }

  async #run(
    pair: WorkerPair,
    fill: (ring: RingWriter) => Promise<void> | undefined,
    socket?: SocketJob,
  ): Promise<TurnEnd> {
    const { task } = this
    const ring = new RingWriter(pair.ring)
    this.#ring = ring
    const abort = (): void => ring.abort()
    task.stop.addEventListener('abort', abort)
    const storing = new Set<Promise<void>>()
    const onIndex = (index: LayerIndexed): void => {
      const stored = task.keepIndex(index).then(() => {
        ring.indexStored()
        storing.delete(stored)
      })
      storing.add(stored)
    }
    const { keyPrefix, folder, limits, whole } = task
    const job = {
      session: this.session.id,
      keyPrefix,
      folder,
      limits: { ...limits.layer, entries: limits.entries },
      layer: limits.layer,
      whole,
      ...(socket && { socket }),
    }
    const answered = pair.run(job, onIndex, (answer) => {
      if (answer.kind === 'failed') task.fail(new StrataError(answer.code, answer.message))
    })
    const written = task.write(pair.ring)
    try {
      if (task.stop.aborted) abort()
      await fill(ring)
    } catch (error) {
      task.fail(error)
    } finally {
      // Also after a failure: the pair is free, and nothing is written any more, only when all have
      // answered.
      await answered
      await written
      await Promise.all(storing)
      task.stop.removeEventListener('abort', abort)
      this.#entriesBefore += ring.entries
      this.#ring = undefined
    }
    task.stop.throwIfAborted()
    return turnEnd(await answered)
  }
}

function turnEnd(answers: Answer[]): TurnEnd {
  const written = answers.find((answer) => answer.kind === 'written')
  const hashed = answers.find((answer) => answer.kind === 'hashed')
  if (hashed) return { taken: { large: written?.large ?? [], listing: hashed.listing, entries: hashed.entries } }
  const paused = answers.find((answer) => answer.kind === 'paused')
  if (paused) return { rest: paused.rest }
  throw new StrataError('internal', 'an intake worker gave no answer')
}
