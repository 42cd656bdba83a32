import { closeSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { setImmediate } from 'node:timers/promises'
import { duplicate, systemSocketOf } from '@strata/linux'

/** How many bytes of a body are still in the socket, where the HTTP parser cannot know it. */
const left = new WeakMap<IncomingMessage, number>()

/** Bytes of the body that nobody has taken from the socket yet: what is to be dropped before the connection can be closed in peace. `undefined`: Node knows (`request.complete`). */
export function bytesLeft(request: IncomingMessage): number | undefined {
  return left.get(request)
}

/** The length of a body that is plain bytes on a socket of the system's; `undefined` for all others: chunked, HTTP/1.0, TLS. */
export function plainLength(request: IncomingMessage): number | undefined {
  const { 'content-length': length, 'transfer-encoding': coding } = request.headers
  if (request.httpVersion !== '1.1' || coding !== undefined || length === undefined || !/^[0-9]{1,15}$/.test(length)) return undefined
  return systemSocketOf(request.socket) === undefined ? undefined : Number(length)
}

/**
 * The rest of a body, taken out of Node's hands. Node no longer reads from the socket, and its parser never sees what we take, so it will not know where the body ended: the connection
 * can serve no second request, and the answer has to say so (`Connection: close`).
 *
 * A descriptor of our own: when Node closes its one, the number may be another file's a moment later.
 */
export class TakenSocket {
  readonly first: Buffer
  readonly rest: number

  private constructor(private readonly request: IncomingMessage, length: number, readonly fd: number) {
    const pieces: Buffer[] = []
    for (let piece = request.read() as Buffer | null; piece !== null; piece = request.read() as Buffer | null) pieces.push(piece)
    this.first = Buffer.concat(pieces)
    this.rest = length - this.first.length
    left.set(request, this.rest)
  }

  /** Before anything of the body was read. `undefined` if the connection is already gone. */
  static async take(request: IncomingMessage, length: number): Promise<TakenSocket | undefined> {
    // Reading from the message makes Node read from the socket; while we have it, it must not.
    request._read = () => undefined
    // Node may have been asked for more a moment ago, and does so in this turn of the event loop, whatever is said meanwhile.
    await setImmediate()
    const socket = systemSocketOf(request.socket)
    if (socket === undefined || request.destroyed) return undefined
    request.socket.pause()
    socket.readStop()
    socket.reading = false
    return new TakenSocket(request, length, duplicate(socket.fd))
  }

  /** `received`: bytes of the body that came in all. What is left is Node's again, to be read and dropped. */
  giveBack(received: number): void {
    closeSync(this.fd)
    const rest = this.first.length + this.rest - received
    left.set(this.request, rest)
    Reflect.deleteProperty(this.request, '_read')
    // The message believes that it has asked for more already. Where all has come nothing is read: a client that has closed its sending side would be answered by the parser.
    if (rest > 0 && !this.request.destroyed) this.request._read(rest)
  }
}
