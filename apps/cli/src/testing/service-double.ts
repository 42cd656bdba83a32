import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Seen {
  readonly method: string
  readonly url: string
  readonly headers: IncomingMessage['headers']
  body: Buffer
}
export type Route = (request: Seen, response: ServerResponse) => void

/**
 * The service's side of the contract, as far as one test needs it: `'GET /v1/images'` → an answer.
 * The body is read whole before the answer, unless the route's name ends in ` early`. A job's id in
 * a path is written `{job}`. What was asked is kept in `seen`; what nobody expected is a 404.
 */
export class ServiceDouble implements AsyncDisposable {
  readonly seen: Seen[] = []
  readonly routes = new Map<string, Route>()
  #otherwise: Route = ({ method, url }, response) =>
    sendProblem(response, 404, 'not_found', `${method} ${url} is unknown`)
  readonly #waiting: { matches: (seen: Seen) => boolean; resolve: (seen: Seen) => void }[] = []

  private constructor(
    readonly folder: string,
    readonly socket: string,
    readonly server: Server,
  ) {}

  static async start(): Promise<ServiceDouble> {
    const folder = await mkdtemp(join(tmpdir(), 'strata-cli-'))
    const socket = join(folder, 's.sock')
    const server = createServer()
    const double = new ServiceDouble(folder, socket, server)
    server.on('request', (request, response) => void double.#answer(request, response))
    await new Promise<void>((resolve) => server.listen(socket, resolve))
    return double
  }

  on(route: string, answer: Route): this {
    this.routes.set(route, answer)
    return this
  }

  json(route: string, status: number, value?: unknown): this {
    return this.on(route, (_request, response) => sendJson(response, status, value))
  }

  problem(route: string, status: number, code: string, detail: string): this {
    return this.on(route, (_request, response) => sendProblem(response, status, code, detail))
  }

  /** What every other request is answered. */
  otherwise(answer: Route): this {
    this.#otherwise = answer
    return this
  }

  /** The first request, past or to come, with this method and beginning of its URL. */
  async asked(method: string, prefix: string): Promise<Seen> {
    const matches = (seen: Seen): boolean => seen.method === method && seen.url.startsWith(prefix)
    return this.seen.find(matches) ?? new Promise<Seen>((resolve) => this.#waiting.push({ matches, resolve }))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections()
    await new Promise<void>((resolve) => this.server.close(() => resolve()))
    await rm(this.folder, { recursive: true })
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const seen: Seen = {
      method: request.method ?? '',
      url: request.url ?? '',
      headers: request.headers,
      body: Buffer.alloc(0),
    }
    const path = `${seen.method} ${seen.url.split('?')[0] ?? ''}`.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/, '{job}')
    const early = this.routes.get(`${path} early`)
    request.on('error', () => undefined)
    if (early) {
      early(seen, response)
      request.resume()
    } else {
      const chunks: Buffer[] = []
      try {
        for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
      } catch {
        return
      }
      seen.body = Buffer.concat(chunks)
    }
    this.seen.push(seen)
    for (const { matches, resolve } of this.#waiting) if (matches(seen)) resolve(seen)
    if (!early) (this.routes.get(path) ?? this.#otherwise)(seen, response)
  }
}

export function sendJson(response: ServerResponse, status: number, value?: unknown): void {
  response.writeHead(status, value === undefined ? {} : { 'content-type': 'application/json' })
  response.end(value === undefined ? undefined : JSON.stringify(value))
}

export function sendProblem(response: ServerResponse, status: number, code: string, detail: string): void {
  response.writeHead(status, { 'content-type': 'application/problem+json' })
  response.end(JSON.stringify({ type: 'about:blank', title: 'Error', status, code, detail }))
}

export function frame(stream: 1 | 2, payload: Buffer | string): Buffer {
  const bytes = Buffer.from(payload)
  const header = Buffer.alloc(8)
  header[0] = stream
  header.writeUInt32BE(bytes.length, 4)
  return Buffer.concat([header, bytes])
}
