import type { Repository } from '@strata/oci'
import { Tokens } from './auth/tokens.js'
import { RangeMemory } from './blobs/range-memory.js'
import { HostClient } from './host-client.js'
import type { HostsConfiguration } from './hosts/hosts-configuration.js'
import { namedAuthorities, type RegistryHosts } from './hosts/registry-hosts.js'
import { REMOTE_LIMITS, type RemoteLimits } from './limits.js'
import type { Credentials, RemoteRepository } from './remote-repository.js'
import { RepositoryClient } from './repository-client.js'
import { Connections } from './wire/connections.js'
import { authorityOf, Destinations } from './wire/destinations.js'
import type { Environment } from './wire/proxies.js'
import { SYSTEM_TRUST } from './wire/trust.js'
import { Wire } from './wire/wire.js'

/** For one repository: who asks, and how careful. */
export interface RemoteAccess {
  /** For the registry that the repository's name names, never for a mirror. */
  readonly credentials?: Credentials | undefined
  /**
   * That host may have any certificate, or none: plain HTTP. Other hosts, to which it leads, may
   * not.
   */
  readonly insecure?: boolean | undefined
}

/**
 * Registries other than ourselves. One object a process: it keeps connections and tokens, each for
 * whom it was made only.
 *
 * ```ts
 * const hosts = new HostsConfiguration({ folders: ['/etc/docker/certs.d'] })
 * const registries = new RemoteRegistries({ hosts })
 * const busybox = registries.repository(parseTagged('busybox').repository)
 * const { digest, bytes } = await busybox.manifest('latest' as Tag, { signal })
 * ```
 *
 * Laws:
 *
 * - A registry leads only to itself, to hosts of its configuration and to public addresses
 *   (`Destinations`, the one place that decides it).
 * - Credentials are sent only when they are asked for, and only to the registry and to the token
 *   service that belongs to it (`Authorizer`).
 * - Every size, count, depth and duration has a bound (`RemoteLimits`).
 */
export class RemoteRegistries {
  readonly #limits: RemoteLimits
  readonly #hosts: HostsConfiguration
  readonly #connections: Connections
  readonly #tokens: Tokens
  readonly #memory: RangeMemory
  readonly #userAgent: string

  constructor(options: {
    readonly hosts: HostsConfiguration
    readonly limits?: Partial<RemoteLimits> | undefined
    readonly userAgent?: string | undefined
    /** Of it the variables of proxies are read; the process's own if left out. */
    readonly environment?: Environment | undefined
  }) {
    this.#hosts = options.hosts
    this.#limits = { ...REMOTE_LIMITS, ...options.limits }
    this.#connections = new Connections(this.#limits, options.environment ?? process.env)
    this.#tokens = new Tokens(this.#limits)
    this.#memory = new RangeMemory(this.#limits.rangeBytes, this.#limits.maxRangeMemory)
    this.#userAgent = options.userAgent ?? 'strata'
  }

  /** One repository there. No request goes out yet. */
  repository(name: Repository, access: RemoteAccess = {}): RemoteRepository {
    const slash = name.indexOf('/')
    const registry = name.slice(0, slash)
    const path = name.slice(slash + 1)
    let clients: Promise<readonly HostClient[]> | undefined
    const hosts = async (): Promise<readonly HostClient[]> => {
      clients ??= this.#clients(registry, path, access)
      try {
        return await clients
      } catch (error) {
        // Who corrects the file need not start again.
        clients = undefined
        throw error
      }
    }
    return new RepositoryClient(name, path, hosts, this.#memory, this.#limits)
  }

  /** Closes all connections. Requests under way fail. */
  async close(): Promise<void> {
    this.#connections.close()
    await this.#tokens.close()
  }

  async #clients(registry: string, path: string, access: RemoteAccess): Promise<readonly HostClient[]> {
    const configured = await this.#hosts.of(registry, access.insecure ?? false)
    const wire = this.#wire(configured)
    return configured.hosts.map(
      (host) =>
        new HostClient(host, registry, wire, {
          tokens: this.#tokens,
          scope: `repository:${path}:pull`,
          credentials: host.isServer ? access.credentials : undefined,
          realms: host.isServer ? configured.realms : [],
        }),
    )
  }

  #wire(configured: RegistryHosts): Wire {
    const destinations = new Destinations(configured.name, namedAuthorities(configured))
    const { ca = [] } = configured.hosts.find(({ isServer }) => isServer)?.trust ?? {}
    // Where it leads by its configuration, its authorities are believed; nothing else of it counts.
    const led = [...configured.realms, ...configured.redirects].map((to) => [to, { ...SYSTEM_TRUST, ca }] as const)
    const own = configured.hosts.map(({ root, trust }) => [authorityOf(root), trust] as const)
    const trusts = new Map([...led, ...own])
    return new Wire(destinations, this.#connections, this.#limits, this.#userAgent, trusts)
  }
}
