import type { ServerResponse } from 'node:http'

/**
 * A signal that aborts when nobody waits for the answer any more: it is sent, or its connection is
 * closed.
 *
 * It starts aborted where that has happened already, so it may be asked for at any time, also after
 * an `await`. A response emits `close` because it is the only one of its connection: `openListener`
 * serves one request at a time.
 */
export function closedSignal(response: ServerResponse): AbortSignal {
  const closed = new AbortController()
  if (response.closed || response.destroyed || response.req.socket.destroyed) closed.abort()
  else response.once('close', () => closed.abort())
  return closed.signal
}
