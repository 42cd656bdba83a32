import type { RequestListener } from 'node:http'
import { StrataError } from '@strata/base'
import { closeAfter } from './connection.js'
import { closeListener, openListener, type ListenerLimits } from './open-listener.js'
import { parseTcpListener, type Listener } from './listener.js'
import { answerUnread, hasBody } from '../http/early-answer.js'
import { readyAnswer, type NotReady } from '../service/readiness.js'

const CLOSE_MS = 100

/**
 * `GET /health/live`: 200 as long as the process answers. `GET /health/ready`: 200, or 503 with the
 * reasons. Opened before the service starts and closed after it has ended, so that both can be
 * told. `at`: HOST:PORT or the path of a unix socket.
 */
export async function openHealth(
  at: string,
  notReady: () => Promise<readonly NotReady[]>,
  limits: ListenerLimits,
): Promise<{ readonly listener: Listener; close(): Promise<void> }> {
  const listener: Listener = at.startsWith('/') ? { kind: 'unix', path: at, mode: 0o666 } : parseTcpListener(at)
  const server = await openListener(listener, healthListener(notReady), limits)
  return { listener, close: () => closeListener(server, CLOSE_MS) }
}

function healthListener(notReady: () => Promise<readonly NotReady[]>): RequestListener {
  return (request, response) => {
    const answer = (status: number, body: unknown): void => {
      const text = JSON.stringify(body)
      response
        .writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
        .end(request.method === 'HEAD' ? undefined : text)
    }
    closeAfter(request, response)
    if (hasBody(request)) answerUnread(request, response, new StrataError('bad_request', 'this request takes no body'))
    else if (request.url === '/health/live') answer(200, { status: 'live' })
    else if (request.url === '/health/ready')
      void notReady()
        .then(readyAnswer)
        .then(({ status, body }) => answer(status, body))
    else answer(404, { status: 'not found' })
  }
}
