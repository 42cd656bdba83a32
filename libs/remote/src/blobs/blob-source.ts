import { StrataError } from '@strata/base'
import type { HostClient } from '../host-client.js'
import type { RemoteLimits } from '../limits.js'
import type { RemoteBlobDescriptor, RemoteOptions } from '../remote-repository.js'
import { bodyOf, discard, headerOf, lengthOf, type Answer } from '../wire/answer.js'
import { Attempts } from '../wire/attempts.js'
import { Unavailable } from '../wire/unavailable.js'

const EXPECTED = [200, 206, 404, 416]

/** An answer with bytes of a blob. */
export interface BlobAnswer {
  readonly answer: Answer
  /** The blob's byte that its body begins with. */
  readonly from: number
  readonly isRange: boolean
}

interface Span {
  readonly start: number
  readonly end: number
}

/** Who has the bytes of one blob. */
export interface BlobSourceOptions {
  readonly hosts: readonly HostClient[]
  /** Of the blob, below a host's root. */
  readonly path: string
  readonly descriptor: RemoteBlobDescriptor
  readonly limits: RemoteLimits
  readonly options: RemoteOptions
}

/**
 * One blob of a registry, by ranges. Where a registry redirects to the place of the bytes, further
 * ranges ask that place, as long as it answers.
 */
export class BlobSource {
  /** Where the registry led last, on whose behalf, and what was there. */
  #place: { readonly url: URL; readonly host: HostClient } | undefined
  #etag: { readonly origin: string; readonly value: string } | undefined
  #restarts = 0

  constructor(private readonly options: BlobSourceOptions) {}

  get size(): number {
    return this.options.descriptor.size
  }

  attempts(signal: AbortSignal): Attempts {
    const { limits, options, hosts } = this.options
    return new Attempts(limits, { ...options, signal }, () => hosts.some(({ hasAnswered }) => hasAnswered))
  }

  /**
   * One attempt to get bytes from `start` on, until `end` at least if the registry knows ranges.
   *
   * @throws StrataError as `RemoteRepository` says
   */
  async open(span: Span, signal: AbortSignal): Promise<BlobAnswer> {
    const { descriptor } = this.options
    const isWhole = span.start === 0 && span.end === descriptor.size
    const range = isWhole ? undefined : `bytes=${span.start}-${span.end === descriptor.size ? '' : span.end - 1}`
    const { answer, host } = await this.#ask(range, signal)
    try {
      const found = this.#checked(answer, span, range !== undefined)
      this.#remember(answer, host)
      return found
    } catch (error) {
      discard(answer)
      throw error
    }
  }

  /**
   * The bytes of a span, in order, through broken connections. Chunks belong to the reader.
   *
   * @param first an answer that `open` gave for this span
   */
  async *bytes(span: Span, signal: AbortSignal, first?: BlobAnswer): AsyncGenerator<Buffer, undefined> {
    const attempts = this.attempts(signal)
    const { leastBytesPerSecond, paceMs } = this.options.limits
    const enough = (leastBytesPerSecond * paceMs) / 1000
    let at = span.start
    let next = first
    // It was asked for with another signal.
    const stop = (): void => void first?.answer.message.destroy()
    signal.addEventListener('abort', stop)
    let since = at
    try {
      while (at < span.end) {
        try {
          const { answer, from, isRange } = next ?? (await this.open({ start: at, end: span.end }, signal))
          next = undefined
          if (from < at) this.#restarted()
          const end = isRange ? span.end : this.size
          let position = from
          for await (const chunk of bodyOf(answer, this.options.limits)) {
            position += chunk.length
            if (position > end)
              throw new StrataError(
                'registry_invalid',
                `${answer.what} brings more than the ${this.size} bytes of the blob`,
              )
            if (position <= at) continue
            const begin = position - chunk.length
            const wanted = chunk.subarray(Math.max(at - begin, 0), span.end - begin)
            at += wanted.length
            // One byte with each connection is no progress.
            if (at - since >= enough) attempts.progress()
            yield wanted
            // The whole blob came instead of a range of it.
            if (at === span.end && end > at) break
          }
          if (at < span.end) throw new Unavailable(`${answer.what}: the body ended at byte ${at} of ${span.end}`)
        } catch (error) {
          if (at >= span.end && error instanceof Unavailable) return
          await attempts.wait(error)
          since = at
        }
      }
    } finally {
      signal.removeEventListener('abort', stop)
    }
  }

  async #ask(range: string | undefined, signal: AbortSignal): Promise<{ answer: Answer; host: HostClient }> {
    if (this.#place) {
      const { url, host } = this.#place
      const headers = this.#headers(range, url.origin)
      // Plain HTTP is allowed as it was when the registry led there: from plain HTTP only.
      const at = { to: url.href, from: new URL(host.origin) }
      try {
        const answer = await host.open({ at, headers, expected: 'any', isBulk: true }, signal)
        if (answer.status === 200 || answer.status === 206) return { answer, host }
        discard(answer)
      } catch (error) {
        signal.throwIfAborted()
        this.#place = undefined
        throw error
      }
      // An address that was signed for some minutes: the registry gives another one.
      this.#place = undefined
    }
    return await this.#askHosts(range, signal)
  }

  async #askHosts(range: string | undefined, signal: AbortSignal): Promise<{ answer: Answer; host: HostClient }> {
    const { hosts, path, descriptor } = this.options
    let failure: unknown
    for (const host of hosts)
      try {
        const answer = await host.open(
          { at: path, headers: this.#headers(range, host.origin), expected: EXPECTED, isBulk: true },
          signal,
        )
        if (answer.status !== 404) return { answer, host }
        discard(answer)
        failure = new StrataError('blob_not_found', `the registry has no blob ${descriptor.digest}: ${answer.what}`)
      } catch (error) {
        signal.throwIfAborted()
        failure = error
      }
    const server = hosts.at(-1)
    if (!server || !(failure instanceof StrataError) || failure.code !== 'blob_not_found') throw failure
    for (const url of descriptor.urls ?? [])
      if (typeof url === 'string') {
        const answer = await server.open(
          { at: { to: url }, headers: this.#headers(range, ''), expected: EXPECTED, isBulk: true },
          signal,
        )
        if (answer.status !== 404) return { answer, host: server }
        discard(answer)
      }
    throw failure
  }

  #headers(range: string | undefined, origin: string): Record<string, string> {
    if (range === undefined) return {}
    const etag = this.#etag
    return { range, ...(etag?.origin === origin ? { 'if-range': etag.value } : {}) }
  }

  #checked(answer: Answer, { start, end }: Span, isRangeAsked: boolean): BlobAnswer {
    const { what, status } = answer
    const length = lengthOf(answer)
    const size = this.size
    if (status === 206 && isRangeAsked) {
      const range = headerOf(answer, 'content-range') ?? ''
      if (range !== `bytes ${start}-${end - 1}/${size}` && range !== `bytes ${start}-${end - 1}/*`)
        throw new StrataError(
          'registry_invalid',
          `${what} is answered with the range ${JSON.stringify(range.slice(0, 100))}, not with bytes ${start}-${end - 1} of ${size}`,
        )
      if (length !== undefined && length !== end - start)
        throw new StrataError('registry_invalid', `${what} is answered with ${length} bytes, not ${end - start}`)
      return { answer, from: start, isRange: true }
    }
    if (status !== 200) throw new StrataError('registry_invalid', `${what} is answered with ${status}`)
    if (length !== undefined && length !== size)
      throw new StrataError('registry_invalid', `${what} has ${length} bytes, and the blob ${size}`)
    return { answer, from: 0, isRange: false }
  }

  #remember(answer: Answer, host: HostClient): void {
    const { origin } = answer.url
    this.#place = origin === host.origin ? undefined : { url: answer.url, host }
    const etag = headerOf(answer, 'etag')
    const known = this.#etag
    if (known?.origin === origin && etag !== undefined && known.value !== etag)
      throw new StrataError('registry_invalid', `${answer.what} changed while it was read: its ETag is another one`)
    // A weak one says nothing of bytes.
    if (etag !== undefined && !etag.startsWith('W/')) this.#etag = { origin, value: etag }
  }

  #restarted(): void {
    const { maxRestarts } = this.options.limits
    if (++this.#restarts > maxRestarts)
      throw new StrataError(
        'registry_unavailable',
        `the registry sends the blob ${this.options.descriptor.digest} only from its beginning, and broke it off ${maxRestarts + 1} times`,
      )
  }
}
