import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { StrataError } from '@strata/base'
import { notPublic } from './addresses.js'

export interface Address {
  readonly address: string
  readonly family: 4 | 6
}

/** Keys of a hosts.toml: where a registry leads, and which token services get credentials. */
type Key = 'redirects' | 'realms'

/** A place that a request may go to. Only `Destinations` makes one. */
export interface Destination {
  readonly url: URL
  /** A user or the configuration named it: its address may be any. */
  readonly isNamed: boolean
  /** The registry on whose behalf the request is made, for sentences. */
  readonly registry: string
  /** The key of its configuration that would name this place. */
  readonly key: Key
}

/**
 * Where one registry may lead. **This is the one place that decides it**, for redirections, pages
 * (`Link`), token services, `urls` of foreign layers, and the registry itself:
 *
 * 1. a host and port that the user or the configuration of this registry named, wherever it is;
 * 2. any other only at a public address. `addresses` resolves the name and drops what is not
 *    public, and the connection is made to what is left of exactly that answer: a name that answers
 *    differently when it is asked again gains nothing.
 *
 * Never to plain HTTP from HTTPS, never by another scheme, never with credentials in the URL.
 */
export class Destinations {
  readonly #named: ReadonlySet<string>
  readonly #plain: ReadonlySet<string>

  constructor(
    private readonly registry: string,
    options: {
      /** Authorities with their port, as `authorityOf` gives them. */
      readonly named: Iterable<string>
      /** Those of them that plain HTTP may be spoken with from the start. */
      readonly plain: Iterable<string>
    },
  ) {
    this.#named = new Set(options.named)
    this.#plain = new Set(options.plain)
  }

  /**
   * @param from the request that was answered with this URL, which may be relative to it
   * @throws StrataError `address_refused`, `registry_invalid`
   */
  resolve(text: string, from?: URL, key: Key = 'redirects'): Destination {
    if (!URL.canParse(text, from?.href))
      throw new StrataError(
        'registry_invalid',
        `the registry ${this.registry} leads to ${quote(text)}, which is no URL`,
      )
    const url = new URL(text, from?.href)
    if (url.protocol !== 'https:' && url.protocol !== 'http:') throw this.#refused(url, 'it is neither https nor http')
    if (url.username !== '' || url.password !== '') throw this.#refused(url, 'it has credentials in it')
    url.hash = ''
    const authority = authorityOf(url)
    const isNamed = this.#named.has(authority)
    if (url.protocol === 'http:' && from?.protocol === 'https:')
      throw this.#refused(url, 'it is plain HTTP, and was led to from HTTPS')
    if (url.protocol === 'http:' && !from && !this.#plain.has(authority))
      throw this.#refused(url, 'it is plain HTTP: use --insecure, or name it in the hosts configuration with http://')
    if (!isNamed) this.#refuseLiteral(url, key)
    return { url, isNamed, registry: this.registry, key }
  }

  /** The same place, with another path or query. */
  at(destination: Destination, url: URL): Destination {
    if (url.origin !== destination.url.origin) throw new TypeError(`${url.origin} is another place`)
    return { ...destination, url }
  }

  #refuseLiteral(url: URL, key: Key): void {
    const host = hostOf(url)
    const why = isIP(host) === 0 ? localName(host) : notPublic(host)
    if (why !== undefined) throw this.#refused(url, `${host} is ${why}${toConfigure(url, this.registry, key)}`)
  }

  #refused(url: URL, why: string): StrataError {
    return new StrataError(
      'address_refused',
      `the registry ${this.registry} leads to ${quote(url.origin)}, where it may not lead: ${why}`,
    )
  }
}

/**
 * The addresses that a connection to the destination may be made to, at least one.
 *
 * @throws StrataError `address_refused`; an error of the resolver
 */
export async function addressesOf({ url, isNamed, registry, key }: Destination): Promise<Address[]> {
  const host = hostOf(url)
  const literal = isIP(host)
  const all: Address[] =
    literal === 0
      ? (await lookup(host, { all: true })).map(({ address, family }) => ({ address, family: family === 6 ? 6 : 4 }))
      : [{ address: host, family: literal === 6 ? 6 : 4 }]
  if (isNamed) return all
  const allowed = all.filter(({ address }) => notPublic(address) === undefined)
  if (allowed.length > 0) return allowed
  const [first] = all
  throw new StrataError(
    'address_refused',
    `the registry ${registry} leads to ${quote(url.origin)}, where it may not lead: ${host} is at ${first?.address ?? 'no address'}, ` +
      `${notPublic(first?.address ?? '') ?? 'no address'}${toConfigure(url, registry, key)}`,
  )
}

/** `host:port`, the port always. */
export function authorityOf(url: URL): string {
  return `${url.hostname}:${portOf(url)}`
}

export function portOf(url: URL): number {
  if (url.port !== '') return Number(url.port)
  return url.protocol === 'https:' ? 443 : 80
}

/** Without the brackets of an IPv6 address. */
export function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '')
}

/** Names that mean this machine whatever a resolver says (RFC 6761, 6.3). */
function localName(host: string): string | undefined {
  return /^(?:.*\.)?localhost\.?$/.test(host) ? 'this machine' : undefined
}

function toConfigure(url: URL, registry: string, key: Key): string {
  return `; if that is meant, write ${key} = [${quote(authorityOf(url))}] into the hosts.toml of ${registry}`
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 300))
}
