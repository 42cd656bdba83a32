import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { ARCHIVE_HEAD } from '@strata/archive'
import { step, StrataError } from '@strata/oci'
import type { Mouth, Taken, Task } from './mouth.js'
import { takeByRing } from './ring-run.js'
import { StreamMouth } from './stream-mouth.js'
import { plainLength, TakenSocket } from './taken-socket.js'
import { unpackingOf } from './unpacking.js'
import type { WorkerPair } from './worker-pairs.js'

/** What fits into Node's own buffers and the kernel's comes as fast by the stream, and leaves the connection for more. */
const WORTH_TAKING = 1024 * 1024
const PROGRESS_MS = 100

/**
 * A plain HTTP body of known length: the writing thread receives it by itself, straight into the ring. For a packed archive, and for whatever Node's sockets turn out not to allow, the body
 * comes as a stream.
 */
export class SocketMouth implements Mouth {
  private readonly stream: StreamMouth

  private constructor(private readonly request: IncomingMessage, private readonly length: number) {
    this.stream = new StreamMouth(request)
  }

  static for(request: IncomingMessage): SocketMouth | undefined {
    const length = plainLength(request)
    return length !== undefined && length >= WORTH_TAKING ? new SocketMouth(request, length) : undefined
  }

  get interrupted(): AbortSignal {
    return this.stream.interrupted
  }

  async take(pair: WorkerPair, task: Task): Promise<Taken> {
    const head = await this.head(task)
    const socket = unpackingOf(head, task.whole) === 'none' ? await TakenSocket.take(this.request, this.length) : undefined
    if (socket === undefined) return this.stream.take(pair, task)
    const received = new BigInt64Array(new SharedArrayBuffer(8))
    let timer: NodeJS.Timeout | undefined
    try {
      const { first, rest, fd } = socket
      if (this.length > task.limits.bytes) throw new StrataError('limit_exceeded', `the archive has more than ${task.limits.bytes} bytes`)
      step('load.first-bytes')
      const taken = await takeByRing(
        pair,
        task,
        (ring) => {
          timer = setInterval(() => task.report({ bytes: Number(Atomics.load(received, 0)), entries: ring.entries }), PROGRESS_MS)
          return Promise.resolve()
        },
        { fd, first, rest, idleMs: task.limits.idleMs, received: received.buffer },
      )
      return { ...taken, bytes: this.length }
    } finally {
      clearInterval(timer)
      socket.giveBack(Math.max(socket.first.length, Number(Atomics.load(received, 0))))
    }
  }

  /** Enough of the body's beginning to see how it is packed; it stays unread. */
  private async head(task: Task): Promise<Buffer> {
    const { idleMs } = task.limits
    const idle = AbortSignal.timeout(idleMs)
    const either = AbortSignal.any([task.stop, idle])
    for (;;) {
      task.stop.throwIfAborted()
      const head = this.request.read(ARCHIVE_HEAD) as Buffer | null
      if (head !== null) {
        this.request.unshift(head)
        return head
      }
      await once(this.request, 'readable', { signal: either }).catch(() => {
        task.stop.throwIfAborted()
        throw new StrataError('upload_interrupted', `no byte of the upload came for ${idleMs / 1000} seconds`)
      })
    }
  }
}
