import { ServerResponse, STATUS_CODES, type IncomingMessage, type RequestListener } from 'node:http'
import type { Socket } from 'node:net'
import { StrataError } from '@strata/base'
import { connectionOf } from './connection.js'
import { hasBody } from '../http/early-answer.js'
import { LINGER_MS, type Turns } from './turns.js'

/**
 * The protocol that a client may change to: bytes both ways, as docker's attach and exec ask for
 * them. Every other value of `Upgrade` is ignored, as RFC 9110 (7.8) allows: the request is served
 * as if it were not there.
 */
const PROTOCOL = 'tcp'

/**
 * A request that leaves HTTP, from its last byte on. Node has taken its parser off the socket, and
 * made no response.
 */
interface Upgrade {
  readonly socket: Socket
  isTaken: boolean
}
const upgrades = new WeakMap<IncomingMessage, Upgrade>()

/**
 * Whether Node is to take the parser off the connection after this request. A request with a body
 * is none: the body would be read as the raw bytes.
 */
export function asksForUpgrade(request: IncomingMessage): boolean {
  return request.headers.upgrade?.trim().toLowerCase() === PROTOCOL && !hasBody(request)
}

/**
 * Serves a request that asks for an upgrade like every other one: it is authenticated, its route is
 * looked for, and the route's handler calls `takeOver`. If no handler does, the answer is an
 * ordinary one and ends the connection, since nothing parses it any more. Behind a request that is
 * not answered yet, an upgrade closes the connection.
 *
 * @param head what the client has sent behind the request
 */
export function serveUpgrade(
  turns: Turns,
  handler: RequestListener,
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
): void {
  // Node no longer tells the answer before this one when the socket can take more of it.
  if ((connectionOf(socket)?.turns.length ?? 0) > 0) {
    socket.destroy()
    return
  }
  if (head.length > 0) socket.unshift(head)
  // Node took its own listeners off: a reset would end the process.
  socket.on('error', () => socket.destroy())
  socket.setTimeout(0)
  const upgrade: Upgrade = { socket, isTaken: false }
  upgrades.set(request, upgrade)
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.once('finish', () => {
    if (!upgrade.isTaken) closeSoon(socket)
  })
  // As Node does for a response that it made itself.
  socket.on('drain', () => {
    if (!upgrade.isTaken && response.writableNeedDrain) response.emit('drain')
  })
  turns.take({
    request,
    response,
    awaitsContinue: false,
    answer: (_request, answer) => {
      answer.assignSocket(socket)
      handler(request, answer)
    },
  })
}

/** The client sees the answer before the end, whatever it still sends. */
function closeSoon(socket: Socket): void {
  const timer = setTimeout(() => socket.destroy(), LINGER_MS)
  socket.once('close', () => clearTimeout(timer))
  socket.resume().once('end', () => socket.destroySoon())
  socket.end()
}

/**
 * Takes a connection over from HTTP: answers `101` and gives the socket, on which every byte is the
 * caller's from then on, in both directions. What the client sent behind its request comes first.
 *
 * Laws
 * - The request was authenticated, as every request whose handler runs.
 * - The turn ends when the socket is closed. Nothing else is served on the connection. A client
 *   that takes nothing of what is written is cut off, unless it may pause (`letClientPause`).
 * - The socket is the caller's to end. `closeListener` destroys it when its time is over.
 * - A client that ends its direction can still be written to.
 *
 * @param headers of the answer, as `content-type`
 * @throws StrataError `bad_request` if the request does not ask for an upgrade
 */
export function takeOver(
  request: IncomingMessage,
  response: ServerResponse,
  headers: Readonly<Record<string, string>> = {},
): Socket {
  const upgrade = upgrades.get(request)
  if (!upgrade || upgrade.isTaken || response.headersSent)
    throw new StrataError(
      'bad_request',
      `this request takes the connection over: send "Connection: Upgrade" and "Upgrade: ${PROTOCOL}", and no body`,
    )
  const { socket } = upgrade
  upgrade.isTaken = true
  // For the log and the metrics: Node does not write this answer.
  response.statusCode = 101
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
  socket.write(
    [`HTTP/1.1 101 ${STATUS_CODES[101]}`, ...lines, 'connection: Upgrade', `upgrade: ${PROTOCOL}`, '', ''].join('\r\n'),
  )
  const connection = connectionOf(socket)
  if (connection) connection.isEnding = true
  return socket
}
