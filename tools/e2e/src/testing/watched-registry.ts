import { once } from 'node:events'
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** What a test has the proxy do with a request itself. `false`: the request is passed on. */
type Instead = (request: IncomingMessage, response: ServerResponse) => boolean

/**
 * A proxy before a registry: it notes what is asked for, and how many bytes of blobs went through.
 * A test may answer instead of the registry, or hold back the bytes of a blob.
 */
export class WatchedRegistry {
  readonly asked: string[] = []
  /** Of bodies of blobs. */
  bytes = 0
  instead: Instead = () => false
  /** A blob's body stops after so many bytes, until this is set again and the client comes anew. */
  stopAfter = Infinity
  readonly #held = new Set<ServerResponse>()

  private constructor(
    private readonly target: string,
    private readonly server: Server,
  ) {}

  static async before(target: string): Promise<WatchedRegistry> {
    const server = createServer()
    const watched = new WatchedRegistry(target, server)
    server.on('request', (from, to) => watched.#pass(from, to))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return watched
  }

  get host(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`
  }

  /** The requests for blobs, and what they began with. */
  get blobs(): readonly string[] {
    return this.asked.filter((line) => line.startsWith('GET ') && line.includes('/blobs/'))
  }

  /** Whether the bytes of a blob are held back at this moment. */
  get isHolding(): boolean {
    return this.#held.size > 0
  }

  forget(): void {
    this.asked.length = 0
    this.bytes = 0
  }

  async stop(): Promise<void> {
    this.server.close()
    this.server.closeAllConnections()
    await once(this.server, 'close')
  }

  #pass(from: IncomingMessage, to: ServerResponse): void {
    const { range } = from.headers
    this.asked.push(`${from.method} ${from.url}${range === undefined ? '' : ` ${range}`}`)
    to.once('close', () => this.#held.delete(to))
    if (this.instead(from, to)) return
    const [hostname, port] = this.target.split(':')
    const headers = { ...from.headers, host: this.target }
    const on = request({ hostname, port, method: from.method, path: from.url, headers, agent: false })
    from.pipe(on)
    on.on('error', () => to.destroy())
    on.on('response', (answer) => {
      to.writeHead(answer.statusCode!, answer.rawHeaders)
      if (from.method !== 'GET' || !from.url?.includes('/blobs/')) return answer.pipe(to)
      let left = this.stopAfter
      answer.on('data', (chunk: Buffer) => {
        const part = chunk.subarray(0, left)
        left -= part.length
        this.bytes += part.length
        if (part.length > 0) to.write(part)
        if (left > 0) return
        this.#held.add(to)
        answer.destroy()
      })
      answer.on('end', () => to.end())
      return undefined
    })
    to.once('close', () => on.destroy())
  }
}
