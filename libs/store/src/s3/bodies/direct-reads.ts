import { connect as connectPlain, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { Etag } from '../../objects/object-store.js'
import { CONNECT_MS, SILENCE_MS } from '../s3-client.js'

/** How long a connection is kept that nobody uses. Servers close theirs after 10 s or more. */
const IDLE_MS = 5_000
const MAX_IDLE = 16
const MAX_HEAD = 16 * 1024

/** What a range is part of: the answer has to say the same. */
export interface Piece {
  readonly start: number
  readonly end: number
  readonly size: number
  readonly etag: Etag
}

/**
 * Reads ranges of objects straight into memory of the caller. Node's HTTP client makes a new buffer
 * of 64 KiB for each read, and the kernel has to clear each of them: that halves the speed of a
 * download (docs/performance.md). A socket's `onread` reads to where it is told.
 *
 * This knows one request and its expected answer: 206 with the range, the length, the size and the
 * ETag that were asked for. Anything else (an error, a redirection, a body in chunks, other bytes,
 * a connection that breaks) ends the connection, and the caller asks the ordinary client for what
 * is missing. So nothing here is tried again, and no error is told.
 */
export class DirectReads {
  readonly #idle: Connection[] = []
  readonly #open = new Set<Connection>()
  #isClosed = false

  constructor(private readonly endpoint: URL) {}

  /**
   * Reads the piece into `into`. Resolves with how many of its bytes, from the first, are there.
   * When it has resolved, nothing is written into that memory any more.
   */
  async read(url: URL, piece: Piece, into: Buffer, signal: AbortSignal): Promise<number> {
    for (;;) {
      if (signal.aborted || this.#isClosed) return 0
      const kept = this.#idle.pop()
      const connection = kept ?? this.#connect()
      const { length, isUnheard } = await connection.request(requestOf(url, piece), piece, into, signal)
      this.#settle(connection)
      // The server may have closed the connection before the request came. A new one will tell.
      if (kept === undefined || !isUnheard) return length
    }
  }

  close(): void {
    this.#isClosed = true
    for (const connection of this.#open) connection.destroy()
  }

  #settle(connection: Connection): void {
    if (connection.isReusable && !this.#isClosed && this.#idle.length < MAX_IDLE) {
      connection.rest()
      this.#idle.push(connection)
    } else connection.destroy()
  }

  #connect(): Connection {
    const connection = new Connection(this.endpoint, () => {
      this.#open.delete(connection)
      const at = this.#idle.indexOf(connection)
      if (at >= 0) this.#idle.splice(at, 1)
    })
    this.#open.add(connection)
    return connection
  }
}

interface Exchange {
  readonly piece: Piece
  readonly into: Buffer
  /** Bytes of the body that are there; `undefined` before the head of the answer. */
  length: number | undefined
  isUnheard: boolean
  readonly done: (result: { length: number; isUnheard: boolean }) => void
}

class Connection {
  readonly #socket: Socket
  readonly #head = Buffer.allocUnsafeSlow(MAX_HEAD)
  #headLength = 0
  #exchange: Exchange | undefined
  isReusable = false

  constructor({ protocol, hostname, port }: URL, closed: () => void) {
    const host = hostname.replace(/^\[|\]$/g, '')
    const secure = protocol === 'https:'
    const options = {
      host,
      port: port === '' ? (secure ? 443 : 80) : Number(port),
      onread: {
        buffer: () => this.#room(),
        callback: (length: number) => {
          this.#take(length)
          return true
        },
      },
    }
    this.#socket = secure
      ? connectTls({
          ...options,
          ...(isIP(host) === 0 ? { servername: host } : {}),
          ALPNProtocols: ['http/1.1'],
          // Without it the variable NODE_TLS_REJECT_UNAUTHORIZED decides.
          rejectUnauthorized: true,
        })
      : connectPlain(options)
    this.#socket.setNoDelay(true)
    const late = setTimeout(() => this.#socket.destroy(), CONNECT_MS)
    this.#socket.once(secure ? 'secureConnect' : 'connect', () => clearTimeout(late))
    this.#socket.on('timeout', () => this.#socket.destroy())
    // 'close' follows each of these.
    this.#socket.on('error', () => undefined)
    this.#socket.on('end', () => this.#socket.destroy())
    this.#socket.once('close', () => {
      clearTimeout(late)
      this.isReusable = false
      this.#finish()
      closed()
    })
  }

  async request(
    text: string,
    piece: Piece,
    into: Buffer,
    signal: AbortSignal,
  ): Promise<{ readonly length: number; readonly isUnheard: boolean }> {
    if (this.#socket.destroyed) return { length: 0, isUnheard: true }
    const stop = (): void => this.destroy()
    signal.addEventListener('abort', stop)
    this.isReusable = false
    this.#headLength = 0
    this.#socket.ref()
    this.#socket.setTimeout(SILENCE_MS)
    try {
      return await new Promise((done) => {
        this.#exchange = { piece, into, length: undefined, isUnheard: true, done }
        this.#socket.write(text, 'latin1')
      })
    } finally {
      signal.removeEventListener('abort', stop)
    }
  }

  /** Nobody uses it: it neither keeps the process alive nor stays for ever. */
  rest(): void {
    this.#socket.setTimeout(IDLE_MS)
    this.#socket.unref()
  }

  destroy(): void {
    this.isReusable = false
    this.#socket.destroy()
    this.#finish()
  }

  /** Where the next bytes are to be read to. It is never empty, and never more than the body's. */
  #room(): Buffer {
    const { length, into, piece } = this.#exchange ?? {}
    if (length === undefined) return this.#head.subarray(this.#headLength)
    return into!.subarray(length, piece!.end - piece!.start)
  }

  #take(read: number): void {
    const exchange = this.#exchange
    // Nothing was asked for: whatever the server says, nobody waits for it.
    if (!exchange) {
      this.destroy()
      return
    }
    exchange.isUnheard = false
    if (exchange.length === undefined) this.#takeHead(exchange, read)
    else exchange.length += read
    if (exchange.length === exchange.piece.end - exchange.piece.start) this.#finish()
  }

  #takeHead(exchange: Exchange, read: number): void {
    this.#headLength += read
    const head = this.#head.subarray(0, this.#headLength)
    const end = head.indexOf('\r\n\r\n')
    if (end < 0) {
      if (this.#headLength === MAX_HEAD) this.destroy()
      return
    }
    const answer = expectedAnswer(head.toString('latin1', 0, end), exchange.piece)
    const body = head.subarray(end + 4)
    // A longer body than it announces would be taken for the next answer.
    if (!answer || body.length > exchange.piece.end - exchange.piece.start) {
      this.destroy()
      return
    }
    this.isReusable = answer.isKept
    body.copy(exchange.into)
    exchange.length = body.length
  }

  #finish(): void {
    const exchange = this.#exchange
    this.#exchange = undefined
    this.#headLength = 0
    exchange?.done({ length: exchange.length ?? 0, isUnheard: exchange.isUnheard })
  }
}

function requestOf(url: URL, { start, end, etag }: Piece): string {
  const lines = [
    `GET ${url.pathname}${url.search} HTTP/1.1`,
    `Host: ${url.host}`,
    `Range: bytes=${start}-${end - 1}`,
    `If-Match: "${etag}"`,
  ]
  return `${lines.join('\r\n')}\r\n\r\n`
}

/** `undefined` if the head is any other than that of the one expected answer. */
function expectedAnswer(head: string, { start, end, size, etag }: Piece): { readonly isKept: boolean } | undefined {
  const [status = '', ...lines] = head.split('\r\n')
  if (!/^HTTP\/1\.1 206(?: |$)/.test(status)) return undefined
  const fields = new Map<string, string>()
  for (const line of lines) {
    const [, name, value] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? []
    if (name === undefined || value === undefined) return undefined
    const key = name.toLowerCase()
    if (fields.has(key) && DECISIVE.has(key)) return undefined
    fields.set(key, value)
  }
  const isExpected =
    fields.get('content-range') === `bytes ${start}-${end - 1}/${size}` &&
    fields.get('content-length') === String(end - start) &&
    fields.get('etag') === `"${etag}"` &&
    !fields.has('transfer-encoding') &&
    !fields.has('content-encoding')
  return isExpected ? { isKept: !/\bclose\b/i.test(fields.get('connection') ?? '') } : undefined
}

/** Fields that must not be there twice. */
const DECISIVE: ReadonlySet<string> = new Set(['content-range', 'content-length', 'etag', 'connection'])
