import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/**
 * As much of a registry as a login asks, on the loopback, over HTTP. `asks`: the header with which
 * `/v2/` is refused; `{host}` in it is the registry's own. It takes `me:pw`, and tokens of its
 * realm `/token`, which `gives` says more of.
 */
export class RegistryDouble implements AsyncDisposable {
  /** Path and query of each request, and what it was authorised by. */
  readonly seen: { readonly url: string; readonly authorization: string | undefined }[] = []
  asks = 'Basic realm="x"'
  gives: unknown = { token: 'T' }
  /** By path: what is answered instead. */
  readonly instead = new Map<string, (response: ServerResponse) => void>()
  readonly #server = createServer((request, response) => this.#answer(request, response))

  static async start(): Promise<RegistryDouble> {
    const double = new RegistryDouble()
    await new Promise<void>((resolve) => double.#server.listen(0, '127.0.0.1', resolve))
    return double
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }

  #answer({ url = '', headers: { authorization } }: IncomingMessage, response: ServerResponse): void {
    this.seen.push({ url, authorization })
    const path = url.split('?')[0] ?? ''
    const instead = this.instead.get(path)
    if (instead) return instead(response)
    const isKnown = authorization === `Basic ${Buffer.from('me:pw').toString('base64')}`
    if (path === '/token') {
      if (isKnown) response.end(JSON.stringify(this.gives))
      else response.writeHead(401).end()
      return
    }
    const isTaken = this.asks.startsWith('Bearer') ? authorization === 'Bearer T' : isKnown
    if (isTaken) response.end('{}')
    else response.writeHead(401, { 'www-authenticate': this.asks.replace('{host}', this.host) }).end()
  }
}
