import { createHash } from 'node:crypto'
import { SingleFlightByKey, StrataError } from '@strata/base'
import { readJson } from '@strata/oci'
import { z } from 'zod'
import type { RemoteLimits } from '../limits.js'
import type { Credentials } from '../remote-repository.js'
import type { Destination } from '../wire/destinations.js'
import { retryAfterMs } from '../wire/attempts.js'
import { headerOf, readBody } from '../wire/answer.js'
import { Unavailable } from '../wire/unavailable.js'
import { within } from '../wire/within.js'
import type { Wire, WireRequest } from '../wire/wire.js'

/** What a token is asked for. */
export interface TokenRequest {
  readonly wire: Wire
  readonly realm: Destination
  readonly service: string | undefined
  readonly scope: string
  /** Only those that the realm may see. */
  readonly credentials: Credentials | undefined
  /** Of the registry. Its tokens are nobody else's. */
  readonly registry: string
}

/** distribution: "Token Authentication Specification". */
const tokenSchema = z.object({
  token: z.string().nullish(),
  access_token: z.string().nullish(),
  expires_in: z.number().nonnegative().nullish().catch(undefined),
})
/** What a service that does not say it gives (the specification's default). */
const DEFAULT_SECONDS = 60
const MAX_SECONDS = 24 * 60 * 60
/** A token is used until a tenth of its time is left, or these seconds. */
const MARGIN_MS = 10_000

interface Token {
  readonly token: string
  readonly until: number
}

/**
 * Tokens of a process, by what they were given for. One that expired, or that its registry refused,
 * is asked for anew, once for all requests that wait for it.
 */
export class Tokens {
  readonly #tokens = new Map<string, Token>()
  readonly #flights = new SingleFlightByKey<string, string>()

  constructor(private readonly limits: RemoteLimits) {}

  /**
   * @param refused a token that the registry did not take: it is not given again
   * @throws StrataError `registry_denied`, `registry_invalid`, `registry_unavailable`, …
   */
  async get(request: TokenRequest, refused: string | undefined, signal: AbortSignal): Promise<string> {
    const key = keyOf(request)
    const known = this.#tokens.get(key)
    if (known && known.until > performance.now() && known.token !== refused) return known.token
    return await this.#flights.run(key, async (flight) => await this.#ask(key, request, flight), signal)
  }

  get size(): number {
    return this.#tokens.size
  }

  async close(): Promise<void> {
    await this.#flights.close()
    this.#tokens.clear()
  }

  async #ask(key: string, request: TokenRequest, signal: AbortSignal): Promise<string> {
    const began = performance.now()
    const { maxTokenBytes, maxTokenDepth, maxTokens, requestMs } = this.limits
    const what = `the answer of the token service ${request.realm.url.host}`
    const late = (): Error => new Unavailable(`${what} did not come within ${requestMs / 1000} s`)
    const { answer, body } = await within(requestMs, signal, late, async (inTime) => {
      const head = await request.wire.open(wireRequest(request), inTime)
      return { answer: head, body: await readBody(head, maxTokenBytes, what) }
    })
    const { status } = answer
    if (status === 429 || status >= 500)
      throw new Unavailable(`${answer.what} is answered with ${status}`, {
        retryAfterMs: retryAfterMs(headerOf(answer, 'retry-after'), Date.now()),
      })
    if (status !== 200)
      throw new StrataError(
        'registry_denied',
        `the token service ${request.realm.url.host} of ${request.registry} gives no token for ${request.scope}: it answers ${status}` +
          (request.credentials ? '; are the credentials right?' : ': log in first (strata login)'),
      )
    const { token, seconds } = readToken(body, what, { depth: maxTokenDepth, maxLength: maxTokenBytes / 2 })
    const lifeMs = Math.min(seconds, MAX_SECONDS) * 1000
    this.#tokens.delete(key)
    this.#tokens.set(key, { token, until: began + lifeMs - Math.min(lifeMs / 10, MARGIN_MS) })
    if (this.#tokens.size > maxTokens) this.#tokens.delete(this.#tokens.keys().next().value!)
    return token
  }
}

function wireRequest({ realm, service, scope, credentials, wire }: TokenRequest): WireRequest {
  const asked = { ...(service === undefined ? {} : { service }), scope }
  if (credentials && 'identityToken' in credentials) {
    const form = {
      grant_type: 'refresh_token',
      client_id: 'strata',
      refresh_token: credentials.identityToken,
      ...asked,
    }
    return {
      to: realm,
      method: 'POST',
      headers: { accept: 'application/json', 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams(form).toString(),
    }
  }
  const url = new URL(realm.url)
  for (const [name, value] of Object.entries(asked))
    // Several scopes are several parameters.
    for (const one of name === 'scope' ? value.split(' ') : [value]) url.searchParams.append(name, one)
  const user = credentials && 'username' in credentials ? credentials : undefined
  if (user) url.searchParams.set('account', user.username)
  return {
    to: wire.destinations.at(realm, url),
    headers: { accept: 'application/json' },
    ...(user ? { secretHeaders: { authorization: basic(user) } } : {}),
  }
}

function readToken(
  body: Buffer,
  what: string,
  { depth, maxLength }: { depth: number; maxLength: number },
): { token: string; seconds: number } {
  let value: unknown
  try {
    value = readJson(body, what, { depth, parts: 10_000, members: 10_000 })
  } catch (error) {
    if (error instanceof StrataError) throw error
    throw new StrataError('registry_invalid', `${what} is not JSON`)
  }
  const { data } = tokenSchema.safeParse(value)
  const token = [data?.token, data?.access_token].find(Boolean)
  // It becomes a header.
  if (!token || !/^[\x21-\x7e]+$/.test(token) || token.length > maxLength)
    throw new StrataError('registry_invalid', `${what} holds no token`)
  return { token, seconds: data?.expires_in ?? DEFAULT_SECONDS }
}

export function basic({ username, password }: { username: string; password: string }): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
}

function keyOf({ registry, realm, service, scope, credentials }: TokenRequest): string {
  return createHash('sha256')
    .update(JSON.stringify([registry, realm.url.href, service, scope, credentials]))
    .digest('base64')
}
