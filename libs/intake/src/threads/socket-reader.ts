import { receiveNow, waitReadable } from '@strata/linux'
import { StrataError } from '@strata/base'
import type { SocketJob } from './messages.js'
import { PACE_BYTES, PACE_MS } from '../sources/pace.js'
import { PAUSED } from './ring.js'

/** What can end a turn from outside. */
export interface TurnControl {
  /** Others wait for the pair. */
  readonly isWanted: boolean
  throwIfAborted(): void
}

/**
 * A body straight from its socket, in a thread that may block; to the byte, for what follows is not
 * ours. Never by MSG_WAITALL: a call that waits cannot be told to stop.
 *
 * The thread does not wait for a slow client: after `PACE_MS` of waiting for fewer than
 * `PACE_BYTES` the turn is over.
 */
export class SocketReader {
  readonly #received: BigInt64Array<SharedArrayBuffer>
  #first: Uint8Array
  #rest: number
  /** Time spent waiting, and bytes that came, since `PACE_BYTES` came last. */
  #waited = 0
  #flowed = 0

  constructor(
    private readonly job: SocketJob,
    private readonly control: TurnControl,
  ) {
    this.#received = new BigInt64Array(job.received)
    this.#first = job.first
    this.#rest = job.rest
  }

  /**
   * Puts what there is at the beginning of the room, after a wait if need be; 0 = the body is
   * whole, `PAUSED` = the turn is over.
   */
  fill(room: Buffer): number {
    if (this.#first.length > 0) return this.#copyFirst(room)
    return this.#rest > 0 ? this.#receive(room.subarray(0, Math.min(room.length, this.#rest))) : 0
  }

  #copyFirst(room: Buffer): number {
    const part = this.#first.subarray(0, room.length)
    room.set(part)
    this.#first = this.#first.subarray(part.length)
    return part.length
  }

  #receive(room: Buffer): number {
    const { fd } = this.job
    for (;;) {
      this.control.throwIfAborted()
      if (this.control.isWanted) return PAUSED
      const length = receiveFrom(fd, room)
      if (length !== undefined) return this.#count(length)
      if (this.#waited >= PACE_MS) return PAUSED
      const from = performance.now()
      asInterrupted(() => waitReadable(fd, Math.ceil(PACE_MS - this.#waited)))
      this.#waited += performance.now() - from
    }
  }

  #count(length: number): number {
    this.#rest -= length
    Atomics.add(this.#received, 0, BigInt(length))
    this.#flowed += length
    if (this.#flowed >= PACE_BYTES) this.#flowed = this.#waited = 0
    return length
  }
}

/**
 * What has come, without a wait; `undefined`: nothing.
 * @throws StrataError `upload_interrupted` if nothing more will come
 */
export function receiveFrom(fd: number, room: Buffer): number | undefined {
  const length = asInterrupted(() => receiveNow(fd, room))
  if (length === 0) throw new StrataError('upload_interrupted', 'the upload was interrupted: its connection was closed')
  return length
}

function asInterrupted<T>(act: () => T): T {
  try {
    return act()
  } catch (error) {
    throw new StrataError(
      'upload_interrupted',
      `the upload was interrupted: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    )
  }
}
