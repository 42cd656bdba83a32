import { readFileSync } from 'node:fs'
import type { LookupFunction } from 'node:net'
import { CliError, reasonOf } from './errors.js'
import { utf8Path } from './utf8-path.js'

// Not by `import`: see client.ts.
const { BlockList, isIP } = process.getBuiltinModule('node:net')

export const DEFAULT_DATA = '/var/lib/strata'
export const DEFAULT_SOCKET = '/run/strata/strata.sock'

/**
 * Where the service answers. `name` is as STRATA_HOST writes it. `lookup` finds the host's
 * addresses, where no resolver is to be asked. With `tls` the server proves by a certificate that
 * it is `host`. `ca` has the certificates that may vouch for it, in PEM; without, those that
 * Node.js brings may.
 */
export type Endpoint =
  | { readonly kind: 'unix'; readonly name: string; readonly socketPath: string }
  | {
      readonly kind: 'tcp'
      readonly name: string
      readonly host: string
      readonly port: number
      readonly token: string | undefined
      readonly lookup?: LookupFunction
      readonly tls?: { readonly ca?: string }
    }

export function unixEndpoint(socketPath: string): Endpoint {
  return { kind: 'unix', name: `unix://${socketPath}`, socketPath }
}

/**
 * STRATA_HOST (`unix:///…`, `http://host:port` or `https://host:port`; default the unix socket of
 * `strata up`) with STRATA_TOKEN, and STRATA_TLS_CA for `https://`. No variable turns the
 * verification of certificates off: the token would go to whoever stands in between.
 */
export function readEndpoint(environment: NodeJS.ProcessEnv): Endpoint {
  const text = environment['STRATA_HOST'] || `unix://${DEFAULT_SOCKET}`
  if (text.startsWith('unix://')) {
    const path = text.slice('unix://'.length)
    if (!path.startsWith('/'))
      throw new CliError(`STRATA_HOST ${JSON.stringify(text)} names no absolute path: unix:///path/to/socket`)
    return unixEndpoint(utf8Path(path))
  }
  const url = URL.canParse(text) ? new URL(text) : undefined
  // A user, query or fragment would move the host to where a reader does not look for it.
  const scheme = url?.protocol
  if (
    url === undefined ||
    (scheme !== 'http:' && scheme !== 'https:') ||
    url.hostname === '' ||
    url.href !== `${scheme}//${url.host}/`
  )
    throw new CliError(
      `STRATA_HOST ${JSON.stringify(text)} is none of unix:///path, http://host:port and https://host:port`,
    )
  // WHATWG URLs keep the brackets of an IPv6 address; sockets want none.
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  const isThisMachine = isLoopback(host)
  return {
    kind: 'tcp',
    name: text,
    host,
    port: Number(url.port || (scheme === 'https:' ? 443 : 80)),
    token: environment['STRATA_TOKEN'] || (isThisMachine ? localToken(environment) : undefined),
    ...(isThisMachine && isIP(host) === 0 ? { lookup: lookupLoopback } : {}),
    ...(scheme === 'https:' ? { tls: authorities(environment['STRATA_TLS_CA']) } : {}),
  }
}

function authorities(file: string | undefined): { readonly ca?: string } {
  if (!file) return {}
  let ca: string
  try {
    ca = readFileSync(file, 'utf8')
  } catch (error) {
    throw new CliError(`STRATA_TLS_CA ${file}: ${reasonOf(error)}`, { cause: error })
  }
  // Node.js passes over what is none, and then nobody is trusted.
  if (!ca.includes('-----BEGIN CERTIFICATE-----'))
    throw new CliError(`STRATA_TLS_CA ${file} has no certificate in PEM (-----BEGIN CERTIFICATE-----)`)
  return { ca }
}

/**
 * Whether a host of a URL is this machine itself. An address is decided by its value: the URL
 * parser has already turned `127.1`, `0x7f.1` and `2130706433` into `127.0.0.1`. Of names,
 * `localhost` alone is: it is always loopback (RFC 6761), and since a resolver may say otherwise,
 * none is asked (`lookupLoopback`).
 */
function isLoopback(host: string): boolean {
  const family = isIP(host)
  if (family === 0) return host === 'localhost' || host === 'localhost.'
  const loopback = new BlockList()
  loopback.addSubnet('127.0.0.0', 8, 'ipv4')
  loopback.addAddress('::1', 'ipv6')
  return loopback.check(host, family === 6 ? 'ipv6' : 'ipv4')
}

const LOOPBACK = [
  { address: '127.0.0.1', family: 4 },
  { address: '::1', family: 6 },
] as const

const lookupLoopback: LookupFunction = (_host, { all }, found) => {
  if (all) found(null, [...LOOPBACK])
  else found(null, LOOPBACK[0].address, LOOPBACK[0].family)
}

/**
 * On the service's own machine its 0600 token file says the token to whoever may read it. A token
 * never goes to another machine unasked.
 */
function localToken(environment: NodeJS.ProcessEnv): string | undefined {
  try {
    const data = environment['STRATA_DATA'] || DEFAULT_DATA
    return readFileSync(environment['STRATA_TOKEN_FILE'] || `${data}/token`, 'utf8').trim() || undefined
  } catch {
    return undefined
  }
}
