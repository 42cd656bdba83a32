import { StrataError } from '@strata/base'
import type { RemoteLimits } from '../limits.js'
import { broken, discard, headerOf, type Answer } from './answer.js'
import type { Connections, Outgoing } from './connections.js'
import { authorityOf, type Destination, type Destinations } from './destinations.js'
import { SYSTEM_TRUST, type Trust } from './trust.js'

export interface WireRequest {
  readonly to: Destination
  readonly method?: 'GET' | 'POST'
  readonly headers: Readonly<Record<string, string | readonly string[]>>
  /** Of these headers nothing goes to another origin. */
  readonly secretHeaders?: Readonly<Record<string, string | readonly string[]>>
  readonly body?: string
  /** A body that takes its time. Such requests have connections of their own. */
  readonly isBulk?: boolean
}

/**
 * Requests on behalf of one registry. Redirections are followed here: each step asks
 * `Destinations`, and to another origin go no credentials, no client certificate and no header of
 * the configuration.
 */
export class Wire {
  constructor(
    readonly destinations: Destinations,
    private readonly connections: Connections,
    private readonly limits: RemoteLimits,
    private readonly userAgent: string,
    /** By authority; others are trusted as the system says. */
    private readonly trusts: ReadonlyMap<string, Trust>,
  ) {}

  /**
   * One attempt: from the request to the head of the answer that is no redirection.
   *
   * @throws StrataError `registry_unavailable` (`Unavailable` if it may be tried again),
   *   `address_refused`, `registry_invalid`, `limit_exceeded`; the signal's reason
   */
  async open(wanted: WireRequest, signal: AbortSignal): Promise<Answer> {
    let { to } = wanted
    let isSame = true
    for (let hop = 0; ; hop++) {
      const answer = await this.#send(wanted, to, isSame, signal)
      const { status } = answer
      if (![301, 302, 303, 307, 308].includes(status) || wanted.method === 'POST') return answer
      discard(answer)
      const location = headerOf(answer, 'location')
      if (location === undefined)
        throw new StrataError('registry_invalid', `${answer.what} is answered with ${status} and no Location`)
      if (hop === this.limits.maxRedirects)
        throw new StrataError(
          'limit_exceeded',
          `${answer.what} is redirected more than ${this.limits.maxRedirects} times`,
        )
      const next = this.destinations.resolve(location, to.url)
      // Once elsewhere, it stays so: who leads back may have chosen the path.
      isSame &&= next.url.origin === to.url.origin
      to = next
    }
  }

  async #send(wanted: WireRequest, to: Destination, isSame: boolean, signal: AbortSignal): Promise<Answer> {
    const what = named(wanted, to.url)
    const outgoing: Outgoing = {
      destination: to,
      trust: this.#trust(to, isSame),
      method: wanted.method ?? 'GET',
      headers: {
        'user-agent': this.userAgent,
        'accept-encoding': 'identity',
        ...wanted.headers,
        ...(isSame ? wanted.secretHeaders : {}),
      },
      body: wanted.body,
      isBulk: wanted.isBulk ?? false,
    }
    try {
      const message = await this.connections.send(outgoing, signal)
      return { url: to.url, status: message.statusCode ?? 0, message, what }
    } catch (error) {
      signal.throwIfAborted()
      throw broken(error, what)
    }
  }

  /** A client certificate is a credential. */
  #trust(to: Destination, isSame: boolean): Trust {
    const trust = this.trusts.get(authorityOf(to.url)) ?? SYSTEM_TRUST
    return isSame ? trust : { ...trust, client: [] }
  }
}

function named({ method = 'GET' }: WireRequest, url: URL): string {
  // A query may hold a signature or a token.
  return `${method} ${url.origin}${url.pathname}`
}
