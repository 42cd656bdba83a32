import { authorityOf } from '../wire/destinations.js'
import type { Trust } from '../wire/trust.js'

/** What a host is asked for: containerd's words. */
export const CAPABILITIES = ['pull', 'resolve', 'push', 'referrers'] as const
export type Capability = (typeof CAPABILITIES)[number]

/** One host that has the repositories of a registry. */
export interface RegistryHost {
  /** With the path before the repository's name: `https://registry-1.docker.io/v2`. */
  readonly root: URL
  readonly capabilities: ReadonlySet<Capability>
  readonly trust: Trust
  readonly headers: Readonly<Record<string, readonly string[]>>
  /** The registry itself, and no mirror: it gets the credentials. */
  readonly isServer: boolean
  /** HTTPS is tried first; where nobody speaks it, plain HTTP. */
  readonly mayBePlain: boolean
}

/** How one registry is reached: mirrors in their order, then the registry itself. */
export interface RegistryHosts {
  /** As images name it: `docker.io`, `registry.example:5000`. */
  readonly name: string
  readonly hosts: readonly RegistryHost[]
  /** Authorities of token services that get the credentials beside the registry itself. */
  readonly realms: readonly string[]
  /** Authorities that the registry may lead to wherever they are. */
  readonly redirects: readonly string[]
}

/** Hosts of one owner, beside those that have the registry's own name. */
const FAMILIES: Readonly<
  Record<string, { readonly realms: readonly string[]; readonly redirects: readonly string[] }>
> = {
  'docker.io': {
    realms: ['auth.docker.io:443'],
    redirects: ['docker.io:443', 'index.docker.io:443', 'production.cloudflare.docker.com:443'],
  },
  'registry.gitlab.com': { realms: ['gitlab.com:443'], redirects: [] },
}

const NO_FAMILY = { realms: [], redirects: [] }

export function familyOf(name: string): { readonly realms: readonly string[]; readonly redirects: readonly string[] } {
  return FAMILIES[name] ?? NO_FAMILY
}

/** The host that a registry's name stands for. */
export function serverUrl(name: string): URL {
  return new URL(`https://${name === 'docker.io' ? 'registry-1.docker.io' : name}/v2`)
}

/**
 * A name or address of this machine, as docker takes it (127.0.0.0/8, `localhost`): it needs no
 * certificate.
 */
export function isLoopback({ hostname }: URL): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname)
}

/** Every authority that the user or the configuration named for this registry. */
export function namedAuthorities({ hosts, realms, redirects }: RegistryHosts): {
  readonly named: string[]
  readonly plain: string[]
} {
  const plain = hosts.flatMap(({ root, mayBePlain }) =>
    mayBePlain || root.protocol === 'http:' ? [plainOf(root)] : [],
  )
  return { named: [...hosts.map(({ root }) => authorityOf(root)), ...plain, ...realms, ...redirects], plain }
}

/** The same host over HTTP; a port that was not named is 80 then. */
function plainOf(root: URL): string {
  return authorityOf(asPlain(root))
}

export function asPlain(root: URL): URL {
  const plain = new URL(root)
  plain.protocol = 'http:'
  return plain
}
