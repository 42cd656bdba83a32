import type { IncomingMessage } from 'node:http'
import { StrataError } from '@strata/base'
import type { RemoteLimits } from '../limits.js'
import { Unavailable } from './unavailable.js'

/** An answer of which the head is there. */
export interface Answer {
  readonly url: URL
  readonly status: number
  readonly message: IncomingMessage
  /** Names what was asked for: `GET https://…`. */
  readonly what: string
}

/** Each header once; one that came twice and must not is no answer. */
export function headerOf({ message, what }: Answer, name: string): string | undefined {
  const values = message.headersDistinct[name]
  if (values === undefined) return undefined
  if (values.length > 1) throw new StrataError('registry_invalid', `${what} is answered with ${name} twice`)
  return values[0]
}

/**
 * The length that the answer announces, if it does. Compressed answers are refused: they were not
 * asked for, what they become has no bound, and a range of them is none of the blob.
 */
export function lengthOf(answer: Answer): number | undefined {
  const encoding = headerOf(answer, 'content-encoding')
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity')
    throw new StrataError(
      'registry_invalid',
      `${answer.what} is answered with the encoding ${JSON.stringify(encoding.slice(0, 100))}, which was not asked for`,
    )
  const length = headerOf(answer, 'content-length')
  return length === undefined ? undefined : Number(length)
}

/** The whole body of a small answer. Its request has its own time limit. */
export async function readBody(answer: Answer, maxBytes: number, what: string): Promise<Buffer> {
  const { message } = answer
  const tooLarge = (): StrataError =>
    new StrataError('limit_exceeded', `${what} has more than ${maxBytes} bytes: ${answer.what}`)
  try {
    if ((lengthOf(answer) ?? 0) > maxBytes) throw tooLarge()
    const chunks: Buffer[] = []
    let length = 0
    for await (const chunk of message as AsyncIterable<Buffer>) {
      length += chunk.length
      if (length > maxBytes) throw tooLarge()
      chunks.push(chunk)
    }
    return Buffer.concat(chunks)
  } catch (error) {
    message.destroy()
    throw broken(error, answer.what)
  }
}

/** Of a body that nobody wants: so much is read, and for so long, to keep its connection. */
const MAX_DISCARDED = 16 * 1024
const DISCARD_MS = 1_000

/** Gives the connection back if little is left of the answer, and closes it otherwise. */
export function discard({ message }: Answer): void {
  message.on('error', () => undefined)
  if (Number(message.headers['content-length'] ?? Infinity) > MAX_DISCARDED) {
    message.destroy()
    return
  }
  const timer = setTimeout(() => message.destroy(), DISCARD_MS)
  message.once('close', () => clearTimeout(timer))
  message.resume()
}

/** Bytes of a body as they come. It waits `silenceMs` for the next of them. */
export async function* bodyOf(answer: Answer, limits: RemoteLimits): AsyncGenerator<Buffer, undefined> {
  const { message, what } = answer
  const pace = new Pace(limits, (why) => message.destroy(new Unavailable(`${what}: ${why}`)))
  try {
    const chunks = (message as AsyncIterable<Buffer, undefined>)[Symbol.asyncIterator]()
    for (;;) {
      pace.wait()
      const next: IteratorResult<Buffer, undefined> = await chunks.next()
      pace.take(next.done ? 0 : next.value.length)
      if (next.done) return
      yield next.value
    }
  } catch (error) {
    throw broken(error, what)
  } finally {
    pace.end()
    message.destroy()
  }
}

/**
 * Looks ten times in each period whether a body comes fast enough. Only time counts in which
 * somebody waits for it: a reader may be as slow as it likes.
 */
class Pace {
  readonly #timer: NodeJS.Timeout
  #isWaiting = false
  #silent = 0
  #waited = 0
  #bytes = 0

  constructor(
    { silenceMs, paceMs, leastBytesPerSecond }: RemoteLimits,
    private readonly give: (why: string) => void,
  ) {
    const step = Math.ceil(Math.min(silenceMs, paceMs) / 10)
    this.#timer = setInterval(() => {
      if (!this.#isWaiting) return
      this.#silent += step
      this.#waited += step
      if (this.#silent >= silenceMs) this.give(`no byte came for ${silenceMs / 1000} s`)
      else if (this.#waited >= paceMs) {
        if (this.#bytes < (leastBytesPerSecond * paceMs) / 1000)
          this.give(`only ${this.#bytes} bytes came in ${paceMs / 1000} s`)
        this.#waited = 0
        this.#bytes = 0
      }
    }, step)
    this.#timer.unref()
  }

  wait(): void {
    this.#isWaiting = true
  }

  take(bytes: number): void {
    this.#isWaiting = false
    this.#silent = 0
    this.#bytes += bytes
  }

  end(): void {
    clearInterval(this.#timer)
  }
}

/** A connection that breaks may be made again. */
export function broken(error: unknown, what: string): unknown {
  if (error instanceof StrataError) return error
  const { code = '', message, name } = error as NodeJS.ErrnoException
  if (name === 'AbortError') return error
  if (code === 'HPE_HEADER_OVERFLOW')
    return new StrataError('limit_exceeded', `${what}: the headers of the answer are larger than the limit`)
  if (code.startsWith('HPE_') && code !== 'HPE_INVALID_EOF_STATE')
    return new StrataError('registry_invalid', `${what}: the answer is not HTTP (${message})`, { cause: error })
  // With TLS 1.3 a server says so after the handshake.
  if (/_ALERT_(?:CERTIFICATE_REQUIRED|BAD_CERTIFICATE|UNKNOWN_CA)$/.test(code))
    return new StrataError('registry_denied', `${what}: the server does not take our client certificate (${code})`, {
      cause: error,
    })
  return new Unavailable(`${what}: the connection broke (${code || message})`, { cause: error })
}
