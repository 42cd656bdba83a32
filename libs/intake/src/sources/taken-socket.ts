import { closeSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { duplicate, systemSocketOf } from '@strata/linux'
import { StrataError } from '@strata/base'
import { PACE_BYTES } from './pace.js'
import { receiveFrom } from '../threads/socket-reader.js'

const WORTH_A_LOOK = 4096
const MOST_PAUSE_MS = 50

/** How many bytes of a body are still in the socket, where the HTTP parser cannot know it. */
const left = new WeakMap<IncomingMessage, number>()

/**
 * Bytes of the body that nobody has taken from the socket yet: what is to be dropped before the
 * connection can be closed in peace. `undefined`: Node knows (`request.complete`).
 */
export function bytesLeft(request: IncomingMessage): number | undefined {
  return left.get(request)
}

/**
 * The length of a body that is plain bytes on a socket of the system's; `undefined` for all others:
 * chunked, HTTP/1.0, TLS.
 */
export function plainLength(request: IncomingMessage): number | undefined {
  const { 'content-length': length, 'transfer-encoding': coding } = request.headers
  if (request.httpVersion !== '1.1' || coding !== undefined || length === undefined || !/^[0-9]{1,15}$/.test(length))
    return undefined
  return systemSocketOf(request.socket) === undefined ? undefined : Number(length)
}

/**
 * The rest of a body, taken out of Node's hands. Node no longer reads from the socket, and its
 * parser never sees what we take, so it will not know where the body ended: the connection can
 * serve no second request, and the answer has to say so (`Connection: close`).
 *
 * A descriptor of our own: when Node closes its one, the number may be another file's a moment
 * later.
 */
export class TakenSocket {
  /** What Node had read of the body already. */
  readonly first: Buffer
  /** What the turn that is under way has taken from the socket, where one is. */
  #taken: BigInt64Array<SharedArrayBuffer> | undefined
  #untaken: number

  private constructor(
    private readonly request: IncomingMessage,
    length: number,
    readonly fd: number,
  ) {
    const pieces: Buffer[] = []
    for (let piece = request.read() as Buffer | null; piece !== null; piece = request.read() as Buffer | null)
      pieces.push(piece)
    this.first = Buffer.concat(pieces)
    this.#untaken = length - this.first.length
    left.set(request, this.rest)
  }

  /** Before anything of the body was read. `undefined` if the connection is already gone. */
  static async take(request: IncomingMessage, length: number): Promise<TakenSocket | undefined> {
    // Reading from the message makes Node read from the socket; while we have it, it must not.
    request._read = () => undefined
    // Node may have been asked for more a moment ago, and does so in this turn of the event loop,
    // whatever is said meanwhile.
    await setImmediate()
    const socket = systemSocketOf(request.socket)
    if (socket === undefined || request.destroyed) return undefined
    request.socket.pause()
    socket.readStop()
    socket.reading = false
    return new TakenSocket(request, length, duplicate(socket.fd))
  }

  /** Bytes of the body that nobody has taken from the socket yet. */
  get rest(): number {
    return this.#untaken - Number(this.#taken === undefined ? 0 : Atomics.load(this.#taken, 0))
  }

  /** Where a turn that begins counts what it takes from the socket. */
  countTurn(): SharedArrayBuffer {
    this.#taken = new BigInt64Array(new SharedArrayBuffer(8))
    return this.#taken.buffer
  }

  endTurn(): void {
    this.#untaken = this.rest
    this.#taken = undefined
  }

  /**
   * Waits until a turn is worth it: `begun` and what has come since, `PACE_BYTES` of it or the
   * body's end. Looks again and again, for Node does not watch the socket for us: at once where
   * bytes come, then less and less often.
   *
   * Rejects with `stop`'s reason; `upload_interrupted` if the client is gone, or silent for
   * `idleMs`.
   */
  async gather(
    begun: Uint8Array,
    { idleMs, stop }: { readonly idleMs: number; readonly stop: AbortSignal },
  ): Promise<Uint8Array> {
    if (begun.length >= PACE_BYTES || this.#untaken === 0) return begun
    const room = Buffer.allocUnsafe(PACE_BYTES)
    room.set(begun)
    let length = begun.length
    let cameAt = performance.now()
    for (let pause = 1; ;) {
      stop.throwIfAborted()
      const came = receiveFrom(this.fd, room.subarray(length, Math.min(room.length, length + this.#untaken))) ?? 0
      length += came
      this.#untaken -= came
      if (length === room.length || this.#untaken === 0) return room.subarray(0, length)
      const now = performance.now()
      if (came > 0) cameAt = now
      else if (now - cameAt >= idleMs)
        throw new StrataError('upload_interrupted', `no byte of the upload came for ${idleMs / 1000} seconds`)
      // A client that sends byte by byte is not looked at for each of them.
      pause = came >= WORTH_A_LOOK ? 1 : Math.min(2 * pause, MOST_PAUSE_MS, idleMs)
      await sleep(pause, undefined, { signal: stop }).catch(() => undefined)
    }
  }

  /** What is left is Node's again, to be read and dropped. */
  giveBack(): void {
    closeSync(this.fd)
    const { rest } = this
    left.set(this.request, rest)
    Reflect.deleteProperty(this.request, '_read')
    // The message believes that it has asked for more already. Where all has come nothing is read:
    // a client that has closed its sending side would be answered by the parser.
    if (rest > 0 && !this.request.destroyed) this.request._read(rest)
  }
}
