import { once } from 'node:events'
import { Agent, createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream/promises'

/**
 * Passes each request on TCP to the next of several gateways in turn, so that one client's requests
 * never reach the same gateway twice in a row. It changes neither headers nor bytes.
 */
export class AlternatingProxy {
  /** How many requests each gateway got. */
  readonly counts: number[]
  readonly #agent = new Agent({ keepAlive: true })
  #turn = 0

  private constructor(
    private readonly sockets: readonly string[],
    private readonly server: Server,
  ) {
    this.counts = sockets.map(() => 0)
  }

  static async start(...sockets: readonly string[]): Promise<AlternatingProxy> {
    const server = createServer()
    const proxy = new AlternatingProxy(sockets, server)
    server.on('request', (from, to) => void proxy.#pass(from, to).catch(() => to.destroy()))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return proxy
  }

  get host(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`
  }

  async stop(): Promise<void> {
    this.server.close()
    this.server.closeAllConnections()
    this.#agent.destroy()
    await once(this.server, 'close')
  }

  async #pass(from: IncomingMessage, to: ServerResponse): Promise<void> {
    const at = this.#turn++ % this.sockets.length
    this.counts[at]!++
    const on = request({
      socketPath: this.sockets[at]!,
      method: from.method,
      path: from.url,
      headers: from.rawHeaders,
      setHost: false,
      agent: this.#agent,
    })
    const answered = once(on, 'response') as Promise<[IncomingMessage]>
    const [[answer]] = await Promise.all([answered, pipeline(from, on)])
    to.writeHead(answer.statusCode!, answer.rawHeaders)
    await pipeline(answer, to)
  }
}
