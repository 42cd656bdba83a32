import type { ServerResponse } from 'node:http'

/**
 * Calls `work` when nobody waits for the answer any more: it is sent, or its connection is closed.
 *
 * It is called at once where that has happened already, so this may be used at any time, also after
 * an `await`. A response emits `close` because it is the only one of its connection: `openListener`
 * serves one request at a time.
 */
export function onceClosed(response: ServerResponse, work: () => void): void {
  if (response.closed || response.destroyed || response.req.socket.destroyed) work()
  else response.once('close', work)
}

/** A signal that aborts when nobody waits for the answer any more, as `onceClosed`. */
export function closedSignal(response: ServerResponse): AbortSignal {
  const closed = new AbortController()
  onceClosed(response, () => closed.abort(CLOSED))
  return closed.signal
}

/** Every signal aborts in the end. An error of its own for each, with a stack, takes 10 µs. */
const CLOSED = new DOMException('nobody waits for the answer any more', 'AbortError')
