import { isAbsolute, join } from 'node:path'
import { z } from 'zod'
import { authorityOf } from '../wire/destinations.js'
import { SYSTEM_TRUST, type Trust } from '../wire/trust.js'
import { hostsInvalid, readCertificates, readPair } from './host-files.js'
import { CAPABILITIES, type Capability, type RegistryHost } from './registry-hosts.js'

/**
 * A `hosts.toml` as containerd has it (its docs/hosts.md), and two keys of ours beside `server`:
 *
 * | key | value |
 * | --- | --- |
 * | `realms` | hosts of token services that get the credentials of this registry |
 * | `redirects` | hosts that this registry may lead to although they are not public |
 *
 * Keys that are unknown are left alone, as containerd leaves them.
 */
const texts = z.union([z.string().transform((text) => [text]), z.array(z.string())])
const hostSchema = z.object({
  capabilities: z.array(z.string()).optional(),
  ca: texts.optional(),
  client: z.union([z.string(), z.array(z.union([z.string(), z.tuple([z.string(), z.string()])]))]).optional(),
  skip_verify: z.boolean().optional(),
  override_path: z.boolean().optional(),
  header: z.record(z.string(), texts).optional(),
})
const fileSchema = hostSchema.extend({
  server: z.string().optional(),
  host: z.record(z.string(), hostSchema).optional(),
  realms: z.array(z.string()).optional(),
  redirects: z.array(z.string()).optional(),
})
type HostTable = z.infer<typeof hostSchema>

export interface HostsFile {
  /** Mirrors in their order. */
  readonly mirrors: readonly RegistryHost[]
  /** `undefined` if the file names none: then it is the registry itself. */
  readonly server: RegistryHost | undefined
  /** What the file says of the server, also where it does not name it. */
  readonly trust: Trust
  /** Whether it says how the server is to be verified. */
  readonly hasTrust: boolean
  readonly headers: RegistryHost['headers']
  readonly realms: readonly string[]
  readonly redirects: readonly string[]
}

/** @throws StrataError `hosts_invalid` with file and line */
export async function parseHostsToml(text: string, file: string, folder: string): Promise<HostsFile> {
  // Nothing but a pull needs it.
  const { parse, TomlError } = await import('smol-toml')
  let raw: unknown
  try {
    raw = parse(text)
  } catch (error) {
    if (error instanceof TomlError) throw hostsInvalid(file, error.message.split('\n')[0]!, error.line)
    throw error
  }
  const { success, data, error } = fileSchema.safeParse(raw)
  if (!success) {
    const [issue] = error.issues
    const path = issue?.path.map(String) ?? []
    throw hostsInvalid(file, `${path.join('.')}: ${issue?.message ?? 'not valid'}`, lineOf(text, path))
  }
  const place = { file, folder, text }
  const mirrors: RegistryHost[] = []
  for (const [url, table] of Object.entries(data.host ?? {}))
    mirrors.push(await hostOfTable(url, table, ['host', url], false, place))
  return {
    mirrors,
    server: data.server ? await hostOfTable(data.server, data, ['server'], true, place) : undefined,
    trust: await trustOf(data, place),
    hasTrust: data.ca !== undefined || data.skip_verify !== undefined,
    headers: headersOf(data, [], place),
    realms: (data.realms ?? []).map((realm) => authorityIn(realm, ['realms'], place)),
    redirects: (data.redirects ?? []).map((host) => authorityIn(host, ['redirects'], place)),
  }
}

interface Place {
  readonly file: string
  readonly folder: string
  readonly text: string
}

async function hostOfTable(
  name: string,
  table: HostTable,
  path: readonly string[],
  isServer: boolean,
  place: Place,
): Promise<RegistryHost> {
  const url = urlIn(name, path, place)
  if (url.search !== '' || url.hash !== '')
    throw hostsInvalid(place.file, `${name}: the URL of a host has no query`, lineOf(place.text, path))
  const isPlain = url.protocol === 'http:'
  // A certificate is named for a host with http: containerd tries HTTPS first then.
  const mayBePlain = isPlain && url.port !== '' && (table.ca ?? table.client ?? table.skip_verify) !== undefined
  if (mayBePlain) url.protocol = 'https:'
  return {
    root: rooted(url, table.override_path ?? false),
    capabilities: capabilitiesOf(table, path, place),
    trust: await trustOf(table, place),
    headers: headersOf(table, path, place),
    isServer,
    mayBePlain,
  }
}

function rooted(url: URL, isOverridden: boolean): URL {
  const path = url.pathname.replace(/\/+/g, '/').replace(/\/$/, '')
  url.pathname = isOverridden || path.endsWith('/v2') ? path : `${path}/v2`
  return url
}

function urlIn(text: string, path: readonly string[], { file, text: all }: Place): URL {
  const full = /^https?:\/\//.test(text) ? text : `https://${text}`
  const url = URL.canParse(full) ? new URL(full) : undefined
  if (!url || url.username !== '' || url.password !== '' || (text.includes('://') && full !== text))
    throw hostsInvalid(file, `${JSON.stringify(text)} is no http or https URL of a host`, lineOf(all, path))
  return url
}

function authorityIn(text: string, path: readonly string[], place: Place): string {
  return authorityOf(urlIn(text, path, place))
}

function capabilitiesOf({ capabilities = [] }: HostTable, path: readonly string[], place: Place): Set<Capability> {
  const found = new Set<Capability>()
  for (const word of capabilities) {
    const known = CAPABILITIES.find((capability) => capability === word.toLowerCase())
    if (!known)
      throw hostsInvalid(
        place.file,
        `${JSON.stringify(word)} is no capability: they are ${CAPABILITIES.join(', ')}`,
        lineOf(place.text, [...path, 'capabilities']),
      )
    found.add(known)
  }
  return found.size > 0 ? found : new Set(CAPABILITIES)
}

async function trustOf(table: HostTable, { folder }: Place): Promise<Trust> {
  const at = (name: string): string => (isAbsolute(name) ? name : join(folder, name))
  const ca: string[] = []
  for (const name of table.ca ?? []) ca.push(await readCertificates(at(name)))
  const client: { cert: string; key: string }[] = []
  const pairs = typeof table.client === 'string' ? [table.client] : (table.client ?? [])
  for (const pair of pairs) {
    const [cert, key] = typeof pair === 'string' ? [pair, pair] : pair
    client.push(await readPair(at(cert), at(key)))
  }
  return { ...SYSTEM_TRUST, ca, client, isBlind: table.skip_verify ?? false }
}

/** Sent by us alone, so the client's own cannot be replaced. */
const OWN_HEADERS = new Set(['host', 'connection', 'content-length', 'transfer-encoding', 'range', 'accept-encoding'])

function headersOf({ header = {} }: HostTable, path: readonly string[], place: Place): RegistryHost['headers'] {
  for (const [name, values] of Object.entries(header))
    if (
      !/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name) ||
      OWN_HEADERS.has(name.toLowerCase()) ||
      values.some((value) => !/^[\t\x20-\x7e]*$/.test(value))
    )
      throw hostsInvalid(
        place.file,
        `${JSON.stringify(name)} is no header that can be set`,
        lineOf(place.text, [...path, 'header', name]),
      )
  return Object.fromEntries(Object.entries(header).map(([name, values]) => [name.toLowerCase(), values]))
}

/** The line that a key of the file stands in, as far as a look at its lines tells it. */
function lineOf(text: string, path: readonly string[]): number {
  const lines = text.split('\n')
  let from = 0
  if (path[0] === 'host' && path[1] !== undefined)
    from = Math.max(
      lines.findIndex((line) => line.trimStart().startsWith('[') && line.includes(path[1]!)),
      0,
    )
  const key = path.findLast((part) => !/^\d+$/.test(part) && part !== path[1])
  const found = lines.findIndex(
    (line, at) => at >= from && key !== undefined && line.trim().replace(/^"/, '').startsWith(key),
  )
  return (found >= 0 ? found : from) + 1
}
