import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { turnOf, type Connection, type Turn } from '../listener/connection.js'
import type { ServiceMetrics } from './metrics.js'

/** A method that is none of these has no route of ours. */
const METHODS: readonly string[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']

/** Sums of one method and route since the last scrape. */
interface Counted {
  readonly labels: { readonly method: string; readonly route: string }
  /** By status. */
  readonly requests: Map<string, number>
  received: number
  sent: number
}

/** A request whose answer has not ended. */
interface OpenRequest {
  readonly turn: Turn
  readonly connection: Connection
}

/**
 * Counts the requests of a service: how many, how they ended, how long they took and what they
 * moved. By the patterns of their routes: a path never becomes a label.
 *
 * Bytes are those of the connection, and count for the request that is under way. Those of a long
 * upload or download count when they are scraped, not only at its end.
 *
 * Sums are handed to the series when they are scraped: to find one of a series by its labels takes
 * as long as some answers.
 */
export function countRequests(handler: RequestListener, metrics: ServiceMetrics): RequestListener {
  const requests = metrics.counter('strata_http_requests_total')
  const seconds = metrics.histogram('strata_http_request_duration_seconds')
  const received = metrics.counter('strata_http_received_bytes_total')
  const sent = metrics.counter('strata_http_sent_bytes_total')
  const inProgress = metrics.gauge('strata_http_requests_in_progress')
  const open = new Set<OpenRequest>()
  /** By method and route: a few for each route. */
  const counted = new Map<string, Counted>()

  const countedOf = ({ request, route = 'none' }: Turn): Counted => {
    const method = METHODS.includes(request.method ?? '') ? request.method! : 'other'
    const key = `${method} ${route}`
    let found = counted.get(key)
    if (!found) counted.set(key, (found = { labels: { method, route }, requests: new Map(), received: 0, sent: 0 }))
    return found
  }
  const countBytes = ({ turn, connection }: OpenRequest): void => {
    const { bytesRead, bytesWritten } = connection.socket
    const before = connection.counted
    const sums = countedOf(turn)
    // Node counts what waits in memory as written, until the connection ends without it. A counter
    // that goes down throws, here into the `close` of a socket, and that would end the process.
    const all = Math.max(bytesWritten + connection.sentByKernel, before.sent)
    sums.received += bytesRead - before.received
    sums.sent += all - before.sent
    connection.counted = { received: bytesRead, sent: all }
  }
  metrics.onScrape(() => {
    inProgress.set({}, open.size)
    for (const request of open) countBytes(request)
    for (const { labels, requests: byStatus, received: bytesIn, sent: bytesOut } of counted.values()) {
      for (const [status, count] of byStatus) requests({ ...labels, status }, count)
      received(labels, bytesIn)
      sent(labels, bytesOut)
    }
    counted.clear()
  })

  return (request, response) => {
    const found = turnOf(request)
    if (found) {
      const begun = performance.now()
      open.add(found)
      response.once('close', () => {
        open.delete(found)
        const { labels, requests: byStatus } = countedOf(found.turn)
        const status = statusOf(response)
        byStatus.set(status, (byStatus.get(status) ?? 0) + 1)
        seconds(labels, (performance.now() - begun) / 1_000)
        countBytes(found)
      })
    }
    handler(request, response)
  }
}

/** A connection that was taken over (upgrade.ts) has a status, and no headers of this response. */
function statusOf({ statusCode, headersSent }: ServerResponse): string {
  return headersSent || statusCode === 101 ? `${Math.floor(statusCode / 100)}xx` : 'none'
}

/**
 * Says which route a request has, by its pattern. Fastify's is said before the handler runs; a
 * handler that has routes of its own says the one that it finds.
 */
export function nameRoute(request: IncomingMessage, pattern: string): void {
  const found = turnOf(request)
  if (found) found.turn.route = pattern
}
