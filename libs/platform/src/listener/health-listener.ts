import type { RequestListener } from 'node:http'
import { StrataError } from '@strata/base'
import { closeAfter } from './connection.js'
import { closeListener, openListener, type ListenerLimits } from './open-listener.js'
import { parseTcpListener, type Listener } from './listener.js'
import { answerUnread, hasBody } from '../http/early-answer.js'
import type { MetricsPage } from '../metrics/metrics.js'
import { readyAnswer, type NotReady } from '../service/readiness.js'

const CLOSE_MS = 100

/**
 * `GET /health/live`: 200 as long as the process answers. `GET /health/ready`: 200, or 503 with the
 * reasons. `GET /metrics`: what `scrape` gives. Opened before the service starts and closed after
 * it has ended, so that all can be told. `at`: HOST:PORT or the path of a unix socket.
 */
export async function openHealth(
  at: string,
  notReady: () => Promise<readonly NotReady[]>,
  scrape: () => Promise<MetricsPage>,
  limits: ListenerLimits,
): Promise<{ readonly listener: Listener; close(): Promise<void> }> {
  const listener: Listener = at.startsWith('/') ? { kind: 'unix', path: at, mode: 0o666 } : parseTcpListener(at)
  const server = await openListener(listener, healthListener(notReady, scrape), limits)
  return { listener, close: () => closeListener(server, CLOSE_MS) }
}

function healthListener(
  notReady: () => Promise<readonly NotReady[]>,
  scrape: () => Promise<MetricsPage>,
): RequestListener {
  return (request, response) => {
    const send = (status: number, type: string, text: string): void => {
      response
        .writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(text) })
        .end(request.method === 'HEAD' ? undefined : text)
    }
    const answer = (status: number, body: unknown): void => send(status, 'application/json', JSON.stringify(body))
    closeAfter(request, response)
    if (hasBody(request)) answerUnread(request, response, new StrataError('bad_request', 'this request takes no body'))
    else if (request.url === '/health/live') answer(200, { status: 'live' })
    else if (request.url === '/health/ready')
      void notReady()
        .then(readyAnswer)
        .then(({ status, body }) => answer(status, body))
    else if (request.url === '/metrics')
      void scrape().then(
        ({ contentType, text }) => send(200, contentType, text),
        () => send(500, 'text/plain', ''),
      )
    else answer(404, { status: 'not found' })
  }
}
