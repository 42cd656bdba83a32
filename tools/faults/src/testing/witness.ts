import { randomUUID } from 'node:crypto'
import { createServer, type AddressInfo, type Server } from 'node:net'

/**
 * Hears from containers' processes: each calls once, by its token, when it runs. So it is known
 * from outside how often a container's process ran.
 */
export class Witness {
  readonly #heard = new Map<string, number>()
  readonly #server: Server

  private constructor() {
    this.#server = createServer((connection) => {
      let text = ''
      connection.on('error', () => undefined)
      connection.on('data', (piece: Buffer) => {
        text += piece.toString()
        if (!text.endsWith('\n')) return
        this.#heard.set(text.trim(), this.times(text.trim()) + 1)
        connection.end()
      })
    })
  }

  static async start(): Promise<Witness> {
    const witness = new Witness()
    await new Promise<void>((resolve) => witness.#server.listen(0, '127.0.0.1', resolve))
    return witness
  }

  /** What a container has to be launched with so that its process tells `token`, then ends well. */
  container(image: string): { readonly token: string; readonly body: Record<string, unknown> } {
    const token = randomUUID()
    const { port } = this.#server.address() as AddressInfo
    return { token, body: { image, network: 'host', command: ['sh', '-c', `echo ${token} | nc 127.0.0.1 ${port}`] } }
  }

  times(token: string): number {
    return this.#heard.get(token) ?? 0
  }

  close(): void {
    this.#server.close()
  }
}
