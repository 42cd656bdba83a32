import { once } from 'node:events'
import { connect, type NetConnectOpts, type Socket } from 'node:net'

/** A client that says exactly what it is told, and nothing by itself. */
export class RawClient {
  #text = ''
  readonly closed: Promise<void>

  private constructor(readonly socket: Socket) {
    socket.setEncoding('latin1')
    socket.on('data', (piece: string) => (this.#text += piece)).on('error', () => undefined)
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()))
  }

  static async connect(to: NetConnectOpts): Promise<RawClient> {
    const socket = connect(to)
    await once(socket, 'connect')
    return new RawClient(socket)
  }

  /** All that has come so far. */
  get text(): string {
    return this.#text
  }

  /** Resolves when the kernel has taken it. */
  async send(bytes: string | Uint8Array): Promise<void> {
    await new Promise<void>((resolve) => this.socket.write(bytes, () => resolve()))
  }

  /** What has come, once it matches; or once the connection is closed. */
  async receive(pattern: RegExp): Promise<string> {
    while (!pattern.test(this.#text) && !this.socket.closed)
      await Promise.race([new Promise((resolve) => this.socket.once('data', resolve)), this.closed])
    return this.#text
  }
}

/**
 * The text of a request. A body that is given has its length as a header, unless another is given.
 */
export function requestText(line: string, headers: readonly string[] = [], body = ''): string {
  const length =
    body === '' || headers.some((header) => /^(content-length|transfer-encoding):/i.test(header))
      ? []
      : [`content-length: ${Buffer.byteLength(body)}`]
  return [`${line} HTTP/1.1`, 'host: test', ...headers, ...length, '', body].join('\r\n')
}

/** Sends a whole request and resets the connection (RST) as soon as the kernel has taken it. */
export async function sendAndReset(to: NetConnectOpts, text: string): Promise<void> {
  const client = await RawClient.connect(to)
  await client.send(text)
  client.socket.resetAndDestroy()
  await client.closed
}
