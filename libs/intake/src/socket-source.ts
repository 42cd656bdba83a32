import { receiveNow, waitReadable } from '@strata/linux'
import { StrataError } from '@strata/oci'
import type { SocketJob } from './messages.js'

/** How soon a thread that waits for a client sees that it is to stop. */
const LOOK_AGAIN_MS = 200

/** A body straight from its socket, in a thread that may block; to the byte, for what follows is not ours. Never by MSG_WAITALL: a call that waits cannot be told to stop. */
export class SocketSource {
  private readonly received: BigInt64Array<SharedArrayBuffer>
  private first: Uint8Array
  private rest: number

  constructor(private readonly job: SocketJob, private readonly throwIfStopped: () => void) {
    this.received = new BigInt64Array(job.received)
    this.first = job.first
    this.rest = job.rest
  }

  /** Puts what there is at the beginning of the room, after a wait if need be; 0 = the body is whole. */
  fill(room: Buffer): number {
    const length = this.first.length > 0 ? this.copyFirst(room) : this.rest > 0 ? this.receive(room.subarray(0, Math.min(room.length, this.rest))) : 0
    Atomics.add(this.received, 0, BigInt(length))
    return length
  }

  private copyFirst(room: Buffer): number {
    const part = this.first.subarray(0, room.length)
    room.set(part)
    this.first = this.first.subarray(part.length)
    return part.length
  }

  private receive(room: Buffer): number {
    const { fd, idleMs } = this.job
    let since: number | undefined
    for (;;) {
      const length = this.attempt(() => receiveNow(fd, room))
      if (length === 0) throw new StrataError('upload_interrupted', 'the upload was interrupted: its connection was closed')
      if (length !== undefined) {
        this.rest -= length
        return length
      }
      this.throwIfStopped()
      since ??= performance.now()
      if (this.attempt(() => waitReadable(fd, Math.min(LOOK_AGAIN_MS, idleMs)))) continue
      if (performance.now() - since >= idleMs) throw new StrataError('upload_interrupted', `no byte of the upload came for ${idleMs / 1000} seconds`)
    }
  }

  private attempt<T>(act: () => T): T {
    try {
      return act()
    } catch (error) {
      throw new StrataError('upload_interrupted', `the upload was interrupted: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
    }
  }
}
