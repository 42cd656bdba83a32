import { join } from 'node:path'
import { SYSTEM_TRUST } from '../wire/trust.js'
import { listHostFolder, readCertificateFolder, readHostFile } from './host-files.js'
import { parseHostsToml, type HostsFile } from './hosts-toml.js'
import {
  CAPABILITIES,
  familyOf,
  isLoopback,
  serverUrl,
  type RegistryHost,
  type RegistryHosts,
} from './registry-hosts.js'

/**
 * What the operator says of other registries: folders in the layout of containerd and docker,
 * `<folder>/<host[:port]>/`, with a `hosts.toml` or with certificates (`*.crt`, `*.cert` and
 * `*.key`). They are read when a registry is first asked for a repository, so a change counts for
 * the next pull.
 *
 * - The first folder that has the host counts, alone. `_default` is for hosts that none has; also
 *   `HOST_PORT_` is a name for `HOST:PORT`, as in containerd.
 * - A file that cannot be read or understood is an error, never ignored: a mirror or a certificate
 *   that is left out silently is a pull from somewhere else.
 */
export class HostsConfiguration {
  constructor(private readonly options: { readonly folders: readonly string[] }) {}

  /**
   * @param name of a registry, as images name it
   * @param isInsecure the registry itself needs no certificate, nor TLS
   * @throws StrataError `hosts_invalid`
   */
  async of(name: string, isInsecure: boolean): Promise<RegistryHosts> {
    const found = await this.#find(name)
    const family = familyOf(name)
    const own = serverOf(name, found, isInsecure)
    return {
      name,
      hosts: [...(found?.mirrors ?? []), own],
      realms: [...family.realms, ...(found?.realms ?? [])],
      redirects: [...family.redirects, ...(found?.redirects ?? [])],
    }
  }

  async #find(name: string): Promise<HostsFile | undefined> {
    const escaped = name.replace(/:(\d+)$/, '_$1_')
    for (const folderName of new Set([escaped, name]).add('_default'))
      for (const folder of this.options.folders) {
        const found = await readFolder(join(folder, folderName))
        if (found) return found
      }
    return undefined
  }
}

async function readFolder(folder: string): Promise<HostsFile | undefined> {
  const names = await listHostFolder(folder)
  if (!names) return undefined
  const file = join(folder, 'hosts.toml')
  const text = await readHostFile(file)
  if (text !== undefined && text.trim() !== '') return await parseHostsToml(text, file, folder)
  const { ca, client } = await readCertificateFolder(folder, names)
  return {
    mirrors: [],
    server: undefined,
    trust: { ...SYSTEM_TRUST, ca, client },
    hasTrust: ca.length > 0,
    headers: {},
    realms: [],
    redirects: [],
  }
}

/**
 * The registry itself. Where nothing says how a loopback name is verified, it needs no certificate,
 * as with docker.
 */
function serverOf(name: string, found: HostsFile | undefined, isInsecure: boolean): RegistryHost {
  const root = found?.server?.root ?? serverUrl(name)
  const isOpen = isInsecure || (isLoopback(root) && !found?.server && !found?.hasTrust)
  const trust = found?.trust ?? SYSTEM_TRUST
  return {
    root,
    capabilities: found?.server?.capabilities ?? new Set(CAPABILITIES),
    trust: isOpen ? { ...trust, isBlind: true } : trust,
    headers: found?.headers ?? {},
    isServer: true,
    // Where the port of HTTPS was named, HTTP would be at another one.
    mayBePlain:
      root.protocol === 'https:' && !name.endsWith(':443') && (isOpen || (found?.server?.mayBePlain ?? false)),
  }
}
