import type { ServerResponse } from 'node:http'

/** Aborts when the answer's connection is closed: nobody waits any more, or all is sent. */
export function closedSignal(response: ServerResponse): AbortSignal {
  const closed = new AbortController()
  response.on('close', () => closed.abort())
  return closed.signal
}
