import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/**
 * What stands between the services and their S3 server: `pass` all as it is · `slow` each piece
 * half a second late · `503` no request comes through, each is answered so · `broken` a connection
 * breaks after 100 kB of its answer, and after 300 kB of its request · `silent` connections are
 * taken, and nothing is ever said.
 */
export type Trouble = 'pass' | 'slow' | '503' | 'broken' | 'silent'

const BUSY =
  '<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
const ANSWER_503 = `HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: ${BUSY.length}\r\n\r\n${BUSY}`
const SLOW_MS = 500
const BROKEN_ANSWER = 100_000
const BROKEN_REQUEST = 300_000

/**
 * A TCP proxy whose trouble can be changed at any time; a change ends the connections there are.
 */
export class TroubledProxy {
  #trouble: Trouble = 'pass'
  readonly #open = new Set<Socket>()
  readonly #server: Server

  private constructor(private readonly target: URL) {
    this.#server = createServer((socket) => this.#serve(socket))
  }

  static async start(target: string): Promise<TroubledProxy> {
    const proxy = new TroubledProxy(new URL(target))
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve))
    return proxy
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  set trouble(trouble: Trouble) {
    this.#trouble = trouble
    for (const socket of this.#open) socket.destroy()
  }

  close(): void {
    for (const socket of this.#open) socket.destroy()
    this.#server.close()
  }

  #serve(client: Socket): void {
    this.#track(client)
    if (this.#trouble === 'silent') return
    if (this.#trouble === '503') return void client.once('data', () => client.end(ANSWER_503))
    const server = this.#track(connect(Number(this.target.port), this.target.hostname))
    client.on('close', () => server.destroy())
    server.on('close', () => client.destroy())
    void this.#pump(client, server, BROKEN_REQUEST)
    void this.#pump(server, client, BROKEN_ANSWER)
  }

  async #pump(from: Socket, to: Socket, breakAfter: number): Promise<void> {
    let bytes = 0
    const closed = new AbortController()
    to.once('close', () => closed.abort())
    try {
      for await (const piece of from as AsyncIterable<Buffer>) {
        if (this.#trouble === 'slow') await delay(SLOW_MS)
        bytes += piece.length
        if (this.#trouble === 'broken' && bytes > breakAfter) return void to.destroy()
        if (!to.write(piece)) await once(to, 'drain', { signal: closed.signal })
      }
      to.end()
    } catch {
      to.destroy()
    }
  }

  #track(socket: Socket): Socket {
    this.#open.add(socket)
    socket.on('close', () => this.#open.delete(socket))
    socket.on('error', () => socket.destroy())
    return socket
  }
}
