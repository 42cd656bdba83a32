import type { ServerResponse } from 'node:http'

/**
 * A signal that aborts when nobody waits for the answer any more: it is sent, or its connection is closed.
 *
 * It starts aborted where that has happened already, so it may be asked for at any time, also after an `await`.
 * The connection is watched besides the response: a response that waits behind another one on its connection
 * (pipelining) never emits `close`.
 */
export function closedSignal(response: ServerResponse): AbortSignal {
  const closed = new AbortController()
  const { socket } = response.req
  if (response.closed || response.destroyed || socket.destroyed) {
    closed.abort()
    return closed.signal
  }
  const abort = (): void => {
    response.off('close', abort)
    socket.off('close', abort)
    closed.abort()
  }
  response.once('close', abort)
  socket.once('close', abort)
  return closed.signal
}
