import type { IncomingMessage } from 'node:http'
import { ARCHIVE_HEAD } from '@strata/archive'
import { failpoint, StrataError } from '@strata/base'
import type { Source, Taken, Task } from './source.js'
import { SLICE_MS } from './pace.js'
import type { ReaderSession } from '../threads/readers.js'
import { RingRun } from '../threads/ring-run.js'
import { StreamSource } from './stream-source.js'
import { plainLength, TakenSocket } from './taken-socket.js'
import { unpackingOf } from './unpacking.js'

/**
 * What fits into Node's own buffers and the kernel's comes as fast by the stream, and leaves the
 * connection for more.
 */
const WORTH_TAKING = 1024 * 1024
const PROGRESS_MS = 100

/**
 * A plain HTTP body of known length: the writing thread receives it by itself, straight into the
 * ring. For a packed archive, and for whatever Node's sockets turn out not to allow, the body comes
 * as a stream.
 *
 * A client that is slow is waited for here, not by the thread: a turn begins when
 * `TakenSocket.gather` has enough.
 */
export class SocketSource implements Source {
  readonly #stream: StreamSource

  private constructor(
    private readonly request: IncomingMessage,
    private readonly length: number,
  ) {
    this.#stream = new StreamSource(request)
  }

  static for(request: IncomingMessage): SocketSource | undefined {
    const length = plainLength(request)
    return length !== undefined && length >= WORTH_TAKING ? new SocketSource(request, length) : undefined
  }

  get interrupted(): AbortSignal {
    return this.#stream.interrupted
  }

  async take(session: ReaderSession, task: Task): Promise<Taken> {
    const head = await this.#head(task)
    const socket =
      unpackingOf(head, task.whole) === 'none' ? await TakenSocket.take(this.request, this.length) : undefined
    if (socket === undefined) return this.#stream.take(session, task)
    try {
      if (this.length > task.limits.bytes)
        throw new StrataError('limit_exceeded', `the archive has more than ${task.limits.bytes} bytes`)
      failpoint('load.first-bytes')
      return { ...(await this.#read(socket, new RingRun(session, task), task)), bytes: this.length }
    } finally {
      socket.giveBack()
    }
  }

  async #read(socket: TakenSocket, run: RingRun, task: Task): Promise<Omit<Taken, 'bytes'>> {
    const { idleMs } = task.limits
    const timer = setInterval(
      () => task.report({ bytes: this.length - socket.rest, entries: run.entries }),
      PROGRESS_MS,
    )
    try {
      for (let rest: Uint8Array = socket.first; ;) {
        const first = await socket.gather(rest, { idleMs, stop: task.stop })
        const end = await this.#turn(socket, run, first)
        if ('taken' in end) return end.taken
        rest = end.rest
      }
    } finally {
      clearInterval(timer)
    }
  }

  async #turn(socket: TakenSocket, run: RingRun, first: Uint8Array): ReturnType<RingRun['turn']> {
    let timer: NodeJS.Timeout | undefined
    try {
      return await run.turn(
        (ring) => {
          timer = setInterval(() => run.isWanted && ring.yield(), SLICE_MS)
          return undefined
        },
        { fd: socket.fd, first, rest: socket.rest, received: socket.countTurn() },
      )
    } finally {
      clearInterval(timer)
      socket.endTurn()
    }
  }

  /**
   * Enough of the body's beginning to see how it is packed; it stays unread. One listener for all
   * the wait: a new one is told of what lies there already, so who adds one for each try goes round
   * and round over the first bytes, and nothing else runs.
   */
  async #head({ stop, limits: { idleMs } }: Task): Promise<Buffer> {
    stop.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
    const onReadable = (): void => {
      const head = this.request.read(ARCHIVE_HEAD) as Buffer | null
      if (head !== null) resolve(head)
    }
    const onStop = (): void => reject(stop.reason instanceof Error ? stop.reason : new Error(String(stop.reason)))
    const silent = (): void =>
      reject(new StrataError('upload_interrupted', `no byte of the upload came for ${idleMs / 1000} seconds`))
    // After a standstill of the process, timers run before sockets are read.
    const idle = setTimeout(() => setImmediate(silent), idleMs)
    stop.addEventListener('abort', onStop)
    this.request.on('readable', onReadable)
    try {
      const head = await promise
      this.request.off('readable', onReadable)
      this.request.unshift(head)
      return head
    } finally {
      clearTimeout(idle)
      stop.removeEventListener('abort', onStop)
      this.request.off('readable', onReadable)
    }
  }
}
