import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Listener } from './listener.js'

/** A request that has arrived and whose answer is not sent yet. */
export interface Turn {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** Called when all answers before this one are sent. */
  readonly answer: RequestListener
  /** The client waits for `100 Continue` before it sends its body. */
  awaitsContinue: boolean
  /** The client may stop reading the answer for as long as it likes. */
  mayPause: boolean
  /** The pattern of the request's route, once it is known (request-metrics.ts). */
  route: string | undefined
}

/**
 * One connection: everything that a service knows about it. The record is made when the listener
 * accepts the connection, and there is no other table by socket, request or response.
 *
 * Who changes what:
 * - `turns` belongs to turns.ts.
 * - `taken` and `window` belong to unread-answers.ts, `counted` to request-metrics.ts.
 * - The functions of this file are for handlers, which only know a request or a response.
 *
 * A connection that leaves HTTP (upgrade.ts) waits for its turn like every other request. Its turn
 * lasts until the socket is closed, so nothing is served behind it.
 */
export interface Connection {
  readonly socket: Socket
  /**
   * The listener that accepted the connection. Never look at the socket's addresses to find this
   * out: Node reports none for a TCP peer that has reset its connection, exactly as for a unix
   * socket.
   */
  readonly listener: Listener
  /** The first one is being served, the others wait. */
  readonly turns: Turn[]
  /**
   * The request under way is the last one. The connection is closed after its answer, and at once
   * if another arrives.
   */
  isEnding: boolean
  /** What the kernel had taken of the answers when it last took something, and when that was. */
  taken: { readonly bytes: number; readonly at: number }
  /** Where the window of the least rate began; `undefined` if no rate is asked of the answer. */
  window: { readonly bytes: number; readonly at: number } | undefined
  /** Bytes of answers that the kernel took from files (`countSent`): Node does not know of them. */
  sentByKernel: number
  /** Bytes of the connection that are in the metrics. */
  counted: { readonly received: number; readonly sent: number }
}

const connections = new WeakMap<Socket, Connection>()

/** Begins the record of a connection, before anything of it is read. */
export function acceptConnection(socket: Socket, listener: Listener): void {
  connections.set(socket, {
    socket,
    listener,
    turns: [],
    isEnding: false,
    taken: { bytes: 0, at: 0 },
    window: undefined,
    sentByKernel: 0,
    counted: { received: 0, sent: 0 },
  })
}

/** The record of a connection; `undefined` if its server was not made by `openListener`. */
export function connectionOf(socket: Socket): Connection | undefined {
  return connections.get(socket)
}

/**
 * The listener that accepted the request's connection; `undefined` if its server was not made by
 * `openListener`.
 */
export function listenerOf(request: IncomingMessage): Listener | undefined {
  return connectionOf(request.socket)?.listener
}

/**
 * Tells a client that sent `Expect: 100-continue` to send its body. Does nothing for every other
 * client. A client that is answered without it keeps its body, and Node closes the connection after
 * the answer.
 */
export function continueBody(response: ServerResponse): void {
  const turn = turnOf(response.req)?.turn
  if (!turn?.awaitsContinue) return
  turn.awaitsContinue = false
  if (!response.headersSent) response.writeContinue()
}

/** Counts bytes of an answer that were sent past Node, from a file. */
export function countSent(request: IncomingMessage, bytes: number): void {
  const connection = connectionOf(request.socket)
  if (connection) connection.sentByKernel += bytes
}

/**
 * Lets the client of this request stop reading its answer for as long as it likes, as a pager does.
 * Use it only for answers that hold little meanwhile, or that bound what they hold.
 */
export function letClientPause(request: IncomingMessage): void {
  const turn = turnOf(request)?.turn
  if (turn) turn.mayPause = true
}

/**
 * Makes this request the last one of its connection, for clients that are not authenticated: the
 * connection is closed after the answer, and at once if another request arrives before that.
 */
export function closeAfter(request: IncomingMessage, response: ServerResponse): void {
  const connection = connectionOf(request.socket)
  if (connection) connection.isEnding = true
  response.shouldKeepAlive = false
  destroyAtNext(request.socket)
}

/**
 * Closes the connection as soon as its parser has read another request's headers.
 *
 * Node parses everything that it has read before it does anything else: some 1,100 requests fit
 * into 64 KiB, and take 2.6 MB. So the parser is stopped where it is as we know it. Where it is
 * not, turns.ts drops each request.
 */
export function destroyAtNext(socket: Socket): void {
  const { parser } = socket as { parser?: { onIncoming?: unknown } | null }
  if (typeof parser?.onIncoming !== 'function') return
  parser.onIncoming = () => {
    socket.destroy()
    return STOP_PARSING
  }
}

/**
 * What the parser's callback returns to stop the parser. No part of Node's API, as `parser` is not.
 */
const STOP_PARSING = 2

/**
 * The turn of a request that is not answered yet; `undefined` if its server was not made by
 * `openListener`.
 */
export function turnOf(request: IncomingMessage): { readonly turn: Turn; readonly connection: Connection } | undefined {
  const connection = connectionOf(request.socket)
  const turn = connection?.turns.find((one) => one.request === request)
  return connection && turn && { turn, connection }
}
