import { once } from 'node:events'
import { createServer, request as httpRequest, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** What becomes of a request on its way. Without one it passes. */
export type Fault =
  /** Answered with this body; the server behind does not see it. */
  | { readonly kind: 'body'; readonly xml: string }
  /** Answered so, with S3's error of this name; the server behind does not see it. */
  | { readonly kind: 'status'; readonly status: number; readonly code?: string }
  /** Passed on without these headers, as by a server that does not know them. */
  | { readonly kind: 'deaf'; readonly headers: readonly string[] }
  /** Passed on after so many milliseconds. */
  | { readonly kind: 'slow'; readonly ms: number }
  /** Done by the server behind; then the connection is reset instead of an answer. */
  | { readonly kind: 'answer lost' }
  /** Reset after so many bytes of its body. */
  | { readonly kind: 'request cut'; readonly after: number }
  /** The answer is reset after so many bytes of its body. */
  | { readonly kind: 'answer cut'; readonly after: number }
  /** The first half of the answer's body as if it were the whole one. */
  | { readonly kind: 'answer halved' }
  /** The answer comes with these headers in place of its own. */
  | { readonly kind: 'lie'; readonly headers: Readonly<Record<string, string>> }
  /** Taken, and never answered. */
  | { readonly kind: 'silent' }

/**
 * An HTTP server between an S3 client and its server, on a port of its own, which does to requests
 * what a test says.
 */
export class HostileProxy {
  /** Asked for each request. */
  fault: (request: IncomingMessage) => Fault | undefined = () => undefined
  /** Method and URL of each, as they came. */
  readonly requests: string[] = []
  #server: Server | undefined

  private constructor(private readonly target: URL) {}

  static async start(target: string): Promise<HostileProxy> {
    const proxy = new HostileProxy(new URL(target))
    const server = createServer((request, response) => {
      proxy.#handle(request, response).catch(() => request.socket.destroy())
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    proxy.#server = server
    return proxy
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server?.address() as AddressInfo).port}`
  }

  /** Connections to it that are open. */
  async connections(): Promise<number> {
    return new Promise((resolve, reject) =>
      this.#server?.getConnections((error, count) => (error ? reject(error) : resolve(count))),
    )
  }

  async close(): Promise<void> {
    this.#server?.closeAllConnections()
    await new Promise((resolve) => this.#server?.close(resolve))
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests.push(`${request.method} ${request.url}`)
    const fault = this.fault(request)
    switch (fault?.kind) {
      case 'silent':
        return
      case 'status':
        request.resume()
        response.writeHead(fault.status, { 'content-type': 'application/xml' })
        response.end(
          fault.code === undefined
            ? ''
            : `<Error><Code>${fault.code}</Code><Message>told by the proxy</Message></Error>`,
        )
        return
      case 'body':
        request.resume()
        response.writeHead(200, { 'content-type': 'application/xml' }).end(fault.xml)
        return
      case 'request cut': {
        let size = 0
        request.on('data', (chunk: Buffer) => (size += chunk.length) >= fault.after && request.socket.resetAndDestroy())
        return
      }
      case 'slow':
        await delay(fault.ms)
    }
    // The signature is over the Host that the client named, and over no other header.
    const deafTo = fault?.kind === 'deaf' ? fault.headers : []
    const headers = Object.fromEntries(Object.entries(request.headers).filter(([name]) => !deafTo.includes(name)))
    const onward = httpRequest({
      host: this.target.hostname,
      port: this.target.port,
      method: request.method,
      path: request.url,
      headers,
    })
    request.pipe(onward)
    request.once('close', () => request.complete || onward.destroy())
    const [answer] = (await once(onward, 'response')) as [IncomingMessage]
    response.once('close', () => answer.destroy())
    if (fault?.kind === 'answer lost' || fault?.kind === 'answer halved') {
      const body = Buffer.concat((await answer.toArray()) as Buffer[])
      if (fault.kind === 'answer lost') request.socket.resetAndDestroy()
      else
        response
          .writeHead(answer.statusCode!, { 'content-type': 'application/xml' })
          .end(body.subarray(0, body.length / 2))
      return
    }
    response.writeHead(answer.statusCode!, { ...answer.headers, ...(fault?.kind === 'lie' ? fault.headers : {}) })
    if (fault?.kind !== 'answer cut') {
      answer.pipe(response)
      return
    }
    response.flushHeaders()
    let left = fault.after
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      const piece = chunk.subarray(0, left)
      left -= piece.length
      if (piece.length > 0) await new Promise((resolve) => response.write(piece, resolve))
      if (left <= 0) break
    }
    request.socket.destroySoon()
  }
}
