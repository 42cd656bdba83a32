import { orAborted, StrataError } from '@strata/base'
import { Authorizer, type AuthorizerOptions } from './auth/authorizer.js'
import { asPlain, type RegistryHost } from './hosts/registry-hosts.js'
import { discard, headerOf, readBody, type Answer } from './wire/answer.js'
import { retryAfterMs } from './wire/attempts.js'
import type { Destination } from './wire/destinations.js'
import { Unavailable } from './wire/unavailable.js'
import type { Wire } from './wire/wire.js'

export interface HostRequest {
  /** Below the host's root, with its query; or where it led: `from` is what was answered so. */
  readonly at: string | { readonly to: string; readonly from?: URL }
  readonly headers?: Readonly<Record<string, string>>
  /** Others are errors. */
  readonly expected: readonly number[] | 'any'
  readonly isBulk?: boolean
}

const MAX_ERROR_BYTES = 16 * 1024
const ERROR_MS = 5_000
/** An answer may ask for credentials, and for others if a token was not taken. */
const MAX_CHALLENGES = 2

/** One host of a registry, for one repository: its scheme, its credentials, its errors. */
export class HostClient {
  #auth: Authorizer
  /** With the scheme that the host was found to speak. */
  #root: URL
  #isSettled: boolean
  #hasAnswered = false
  #finding: Promise<undefined> | undefined

  constructor(
    readonly host: RegistryHost,
    private readonly registry: string,
    private readonly wire: Wire,
    private readonly auth: Omit<AuthorizerOptions, 'root' | 'wire' | 'registry'>,
  ) {
    this.#root = host.root
    this.#isSettled = !host.mayBePlain
    this.#auth = this.#authorizer()
  }

  /** Whether the host ever answered. */
  get hasAnswered(): boolean {
    return this.#hasAnswered
  }

  /** With the scheme that it speaks. */
  get origin(): string {
    return this.#root.origin
  }

  /**
   * One attempt.
   *
   * @throws StrataError as `RemoteRepository` says; `Unavailable` if it may be tried again
   */
  async open(request: HostRequest, signal: AbortSignal): Promise<Answer> {
    // One request finds out which scheme the host speaks; others wait for that, or they would go
    // by the scheme that it has in the middle of its attempt.
    while (this.#finding && !this.#isSettled) await orAborted(this.#finding, signal)
    if (this.#isSettled) return await this.#authorized(request, signal)
    const found = Promise.withResolvers<undefined>()
    this.#finding = found.promise
    try {
      return await this.#find(request, signal)
    } finally {
      this.#finding = undefined
      found.resolve(undefined)
    }
  }

  async #find(request: HostRequest, signal: AbortSignal): Promise<Answer> {
    try {
      return await this.#authorized(request, signal)
    } catch (error) {
      if (this.#hasAnswered || !(error instanceof Unavailable && error.isUnconnected)) throw error
      this.#speak(asPlain(this.host.root))
      try {
        return await this.#authorized(request, signal)
      } catch (second) {
        if (!this.hasAnswered) this.#speak(this.host.root)
        throw second
      }
    }
  }

  #speak(root: URL): void {
    this.#root = root
    this.#auth = this.#authorizer()
  }

  #authorizer(): Authorizer {
    return new Authorizer({ ...this.auth, wire: this.wire, root: this.#root, registry: this.registry })
  }

  async #authorized(request: HostRequest, signal: AbortSignal): Promise<Answer> {
    let refused: string | undefined
    for (let challenges = 0; ; challenges++) {
      const to = this.#destination(request.at)
      const isOwn = to.url.origin === this.#root.origin
      const authorization = isOwn ? await this.#auth.authorization(refused, signal) : undefined
      const answer = await this.wire.open(
        {
          to,
          headers: request.headers ?? {},
          isBulk: request.isBulk ?? false,
          secretHeaders: isOwn
            ? { ...this.host.headers, ...(authorization === undefined ? {} : { authorization }) }
            : {},
        },
        signal,
      )
      this.#hasAnswered = true
      this.#isSettled = true
      if (request.expected === 'any' || request.expected.includes(answer.status)) return answer
      // Only the host itself may ask for credentials, not where it led.
      const mayAsk = isOwn && answer.url.origin === this.#root.origin
      if (answer.status !== 401 || !mayAsk || challenges === MAX_CHALLENGES || isFinal(authorization, refused))
        throw await this.#failure(answer, signal)
      discard(answer)
      refused = authorization
      this.#auth.challenged(answer)
    }
  }

  #destination(at: HostRequest['at']): Destination {
    const { destinations } = this.wire
    if (typeof at !== 'string') return destinations.resolve(at.to, at.from)
    const url = new URL(`${this.#root.href.replace(/\/$/, '')}/${at}`)
    // A mirror is told whose repository it is, as containerd tells it.
    if (!this.host.isServer) url.searchParams.set('ns', this.registry)
    return destinations.resolve(url.href)
  }

  async #failure(answer: Answer, signal: AbortSignal): Promise<StrataError> {
    const { status, what } = answer
    const words = await errorWords(answer, signal)
    const sentence = `${what} is answered with ${status}${words}`
    if (status === 401 || status === 403)
      return new StrataError(
        'registry_denied',
        `${sentence}: ${this.auth.credentials ? 'the credentials are wrong, or not enough' : `log in first (strata login ${this.registry})`}`,
      )
    if (status === 408 || status === 429 || (status >= 500 && status !== 501 && status !== 505))
      return new Unavailable(sentence, { retryAfterMs: retryAfterMs(headerOf(answer, 'retry-after'), Date.now()) })
    return new StrataError('registry_invalid', sentence)
  }
}

/** A password, or a token that was renewed and is the same again, would be refused again. */
function isFinal(authorization: string | undefined, refused: string | undefined): boolean {
  return authorization !== undefined && (authorization.startsWith('Basic ') || authorization === refused)
}

/** What the registry says of its refusal (distribution-spec, "Error Codes"), if it can be read. */
async function errorWords(answer: Answer, signal: AbortSignal): Promise<string> {
  const timer = setTimeout(() => answer.message.destroy(), ERROR_MS)
  try {
    const body = await readBody(answer, MAX_ERROR_BYTES, 'the error')
    const { errors } = JSON.parse(body.toString('utf8')) as { errors?: { code?: unknown; message?: unknown }[] }
    const [first] = errors ?? []
    const words = [first?.code, first?.message].filter((part) => typeof part === 'string' && part !== '')
    return words.length > 0 ? `: ${JSON.stringify(words.join(': ').slice(0, 300))}` : ''
  } catch {
    signal.throwIfAborted()
    return ''
  } finally {
    clearTimeout(timer)
  }
}
