import type { IncomingMessage } from 'node:http'
import { connectionOf, destroyAtNext, type Connection, type Turn } from './connection.js'
import type { UnreadAnswers } from './unread-answers.js'

/** How many requests of a connection may wait for the answers before them. */
const MAX_WAITING = 16
/** How many bytes the body of a request that waits may have. */
const MAX_WAITING_BODY = 4 * 1024

/**
 * How long the rest of a body may still arrive after its request was answered. It is read and
 * dropped for that long: closing at once makes the kernel reset the connection, and the client may
 * never see the answer.
 */
export const LINGER_MS = 5_000

/**
 * Serves the requests of each connection one after the other.
 *
 * Node calls the handler as soon as a request is parsed. A client that sends 1,000 requests in one
 * packet and reads nothing would have all of them at work.
 *
 * Laws
 * - The handler of a request is called when the answer before it is sent and the connection can
 *   take another one.
 * - At most MAX_WAITING requests of a connection wait. One more closes the connection.
 * - A request waits only if its body is announced with at most MAX_WAITING_BODY bytes; otherwise
 *   the connection is closed. Nobody reads the body of a request that waits. When Node has buffered
 *   64 KiB of it, Node stops reading the socket, and then it does not notice that the client closed
 *   or reset the connection: the answer under way would never end.
 * - A body that is not read when its answer is sent may arrive for LINGER_MS. Then the connection
 *   is closed.
 */
export class Turns {
  constructor(private readonly unread: UnreadAnswers) {}

  /** Serves a request that has just arrived, now or later. */
  take(turn: Omit<Turn, 'mayPause' | 'route'>): void {
    const { request } = turn
    const { socket } = request
    const connection = connectionOf(socket)
    if (connection === undefined || connection.isEnding || !mayWait(connection, request)) {
      destroyAtNext(socket)
      socket.destroy()
      return
    }
    connection.turns.push({ ...turn, mayPause: false, route: undefined })
    if (connection.turns.length === 1) this.#serve(connection)
  }

  #serve(connection: Connection): void {
    const { turns, socket } = connection
    const { request, response, answer } = turns[0]!
    this.unread.watch(connection)
    response.once('finish', () => closeIfUnread(request))
    response.once('close', () => {
      this.unread.forget(connection)
      turns.shift()
      // An answer with `Connection: close` has ended the socket: what waits behind it is not
      // served.
      if (!socket.writable || connection.isEnding) turns.length = 0
      else if (turns.length > 0) this.#serve(connection)
    })
    answer(request, response)
  }
}

function mayWait({ turns }: Connection, { headers }: IncomingMessage): boolean {
  if (turns.length === 0) return true
  if (turns.length > MAX_WAITING) return false
  return headers['transfer-encoding'] === undefined && Number(headers['content-length'] ?? 0) <= MAX_WAITING_BODY
}

function closeIfUnread(request: IncomingMessage): void {
  if (request.complete || request.destroyed) return
  const timer = setTimeout(() => request.socket.destroy(), LINGER_MS)
  request.once('close', () => clearTimeout(timer))
}
