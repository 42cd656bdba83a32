import http, { type IncomingMessage, type OutgoingHttpHeaders } from 'node:http'
import https from 'node:https'
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from 'minio'
import { cancelled } from '../objects/abortable.js'
import { asStoreError, S3Failure } from './s3-failure.js'
import { errorFrom } from './s3-xml.js'

export interface S3Config {
  /** `http://HOST[:PORT]` or `https://…`. */
  readonly endpoint: string
  readonly region: string
  readonly accessKey: string
  readonly secretKey: string
  readonly bucket: string
}

export interface S3Request {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE'
  /** Without a key the request is about the bucket. */
  readonly key?: string
  readonly query?: Readonly<Record<string, string>>
  readonly headers?: OutgoingHttpHeaders
  readonly body?: Uint8Array | readonly Uint8Array[]
  readonly signal?: AbortSignal | undefined
}

/** For how long a request is repeated while a caller waits for its answer. */
const PATIENCE_MS = 2_500
/** The same for a stream under way. It is long enough for a server to restart. */
export const STREAM_PATIENCE_MS = 10_000
/** How long a connection may take to open. */
export const CONNECT_MS = 2_000
/**
 * A server that takes or sends no byte for this long counts as gone. Slow servers hash and sync
 * before they answer.
 */
export const SILENCE_MS = 15_000
const MAX_TEXT = 8 * 1024 * 1024
/** How long a signature is valid. Servers allow about the same difference between the clocks. */
const SIGNED_SECONDS = 900

/**
 * Requests to one bucket. Each is signed in its URL, without the payload (the `minio` package's
 * presigned URLs): bytes are not hashed here, because their digest proves them. The package's own
 * requests are not used: they have no limit of time and no abort, keep the connection of a 503 for
 * ever, and take half a list for a complete one.
 */
export class S3Client {
  readonly #signer: Client
  readonly #transport: typeof http | typeof https
  /** Two pools of connections, so that a short request finds one, however many bodies are open. */
  readonly #short: http.Agent
  readonly #bodies: http.Agent

  constructor(readonly config: S3Config) {
    const { protocol, hostname, port } = new URL(config.endpoint)
    const secure = protocol === 'https:'
    this.#transport = secure ? https : http
    const agent = (maxSockets: number): http.Agent =>
      // Without `rejectUnauthorized` the variable NODE_TLS_REJECT_UNAUTHORIZED decides.
      new this.#transport.Agent({ keepAlive: true, maxSockets, scheduling: 'lifo', rejectUnauthorized: true })
    this.#short = agent(64)
    this.#bodies = agent(256)
    const { region, accessKey, secretKey } = config
    this.#signer = new Client({
      endPoint: hostname.replace(/^\[|\]$/g, ''),
      ...(port === '' ? {} : { port: Number(port) }),
      useSSL: secure,
      region,
      accessKey,
      secretKey,
    })
  }

  /** A URL with which anybody may make this request. */
  async presign(
    method: string,
    key: string | undefined,
    seconds: number,
    query: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    return this.#signer.presignedUrl(method, this.config.bucket, key ?? '', seconds, query)
  }

  /**
   * Runs `work` until it succeeds, fails for good, or `patience` (in ms) is over. `unsure` is true
   * if an earlier attempt may have done its work, but its answer was lost.
   */
  async attempt<T>(
    work: (unsure: boolean) => Promise<T>,
    { patience = PATIENCE_MS, signal }: { patience?: number; signal?: AbortSignal | undefined } = {},
  ): Promise<T> {
    const until = Date.now() + patience
    let unsure = false
    for (let pause = 25; ; pause = Math.min(pause * 2, 800)) {
      try {
        return await work(unsure)
      } catch (error) {
        if (signal?.aborted) throw cancelled()
        if (!(error instanceof S3Failure && error.retryable && Date.now() + pause < until))
          throw asStoreError(error, this.config.endpoint, this.config.bucket)
        unsure ||= error.ambiguous
      }
      await delay(pause * (0.5 + Math.random()))
    }
  }

  /**
   * One attempt. Resolves with the answer when its head has arrived, if its status is 2xx. The
   * caller reads its body or destroys it.
   * @throws S3Failure
   */
  async open(request: S3Request): Promise<IncomingMessage> {
    const answer = await this.#exchange(
      request,
      request.method === 'GET' && request.key !== undefined ? this.#bodies : this.#short,
    )
    const status = answer.statusCode ?? 0
    if (status >= 200 && status < 300) return answer
    throw errorFrom(status, answer.headers, await textOf(answer).catch(() => ''))
  }

  /** One attempt of a request with a small answer. @throws S3Failure */
  async send(request: S3Request): Promise<{ readonly headers: http.IncomingHttpHeaders; readonly text: string }> {
    const answer = await this.open(request)
    return { headers: answer.headers, text: await textOf(answer) }
  }

  close(): void {
    this.#short.destroy()
    this.#bodies.destroy()
  }

  async #exchange(
    { method, key, query, headers, body, signal }: S3Request,
    agent: http.Agent,
  ): Promise<IncomingMessage> {
    const url = new URL(await this.presign(method, key, SIGNED_SECONDS, query))
    if (signal?.aborted) throw cancelled()
    return new Promise((resolve, reject) => {
      const pieces = body instanceof Uint8Array ? [body] : (body ?? [])
      const size = pieces.reduce((sum, piece) => sum + piece.byteLength, 0)
      const length = body || method === 'PUT' || method === 'POST' ? { 'content-length': size } : {}
      const request = this.#transport.request(url, {
        method,
        agent,
        timeout: SILENCE_MS,
        headers: { ...length, ...headers },
      })
      // Not by the option `signal`: that destroys with an error, which nobody hears if the
      // connection is just becoming free.
      const stop = (): void => void request.destroy()
      signal?.addEventListener('abort', stop)
      request.once('close', () => signal?.removeEventListener('abort', stop))
      request.on('error', (error) => reject(S3Failure.ofNetwork(error)))
      request.on('timeout', () => request.destroy(new Error('silent for too long')))
      request.on('response', (answer) => {
        answer.on('error', () => undefined) // its reader sees it, if there is one
        resolve(answer)
      })
      request.on('socket', (socket) => {
        if (!socket.connecting) return
        const late = setTimeout(
          () => request.destroy(Object.assign(new Error('no connection'), { code: 'EHOSTUNREACH' })),
          CONNECT_MS,
        )
        socket.once('connect', () => clearTimeout(late))
        socket.once('close', () => clearTimeout(late))
      })
      for (const piece of pieces.slice(0, -1)) request.write(piece)
      request.end(pieces.at(-1))
    })
  }
}

/** @throws S3Failure if it breaks off, or has no end */
async function textOf(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      size += chunk.length
      if (size > MAX_TEXT) throw S3Failure.ofNonsense(`it has more than ${MAX_TEXT} bytes`)
      chunks.push(chunk)
    }
  } catch (error) {
    throw error instanceof S3Failure ? error : S3Failure.ofNetwork(error as Error)
  }
  return Buffer.concat(chunks).toString('utf8')
}
