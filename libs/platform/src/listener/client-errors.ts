import type { Socket } from 'node:net'
import { connectionOf } from './connection.js'
import { LINGER_MS } from './turns.js'

/** As Node answers without a listener for `clientError`. Everything else is 400. */
const STATUSES: Readonly<Partial<Record<string, string>>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  HPE_CHUNK_EXTENSIONS_OVERFLOW: '413 Payload Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
}

const lingering = new WeakSet<Socket>()

/**
 * Ends a connection on which something came that is no request. As Node does it, with one
 * difference: a client whose URL or headers are too long has not sent all of them yet. If its
 * connection were closed now, the kernel would reset it, and the client would not see the answer.
 * So what it still sends is dropped, for LINGER_MS at most.
 *
 * For `server.on('clientError')`, which comes again for each piece that is dropped: the parser is
 * not asked to go on.
 */
export function endAfterClientError({ code }: NodeJS.ErrnoException, socket: Socket): void {
  if (lingering.has(socket)) return
  const isAnswered = connectionOf(socket)?.turns.some(({ response }) => response.headersSent) ?? false
  if (!socket.writable || isAnswered) return void socket.destroy()
  const answer = `HTTP/1.1 ${STATUSES[code ?? ''] ?? '400 Bad Request'}\r\nconnection: close\r\n\r\n`
  if (code !== 'HPE_HEADER_OVERFLOW') {
    socket.write(answer)
    socket.destroy()
    return
  }
  lingering.add(socket)
  const timer = setTimeout(() => socket.destroy(), LINGER_MS)
  socket.once('close', () => clearTimeout(timer))
  socket.end(answer)
}
