import { readFileSync } from 'node:fs'
import { CliError } from './errors.js'

export const DEFAULT_DATA = '/var/lib/strata'
export const DEFAULT_SOCKET = '/run/strata/strata.sock'

/** Where the service answers. `name` is as STRATA_HOST writes it. */
export type Endpoint =
  | { readonly kind: 'unix'; readonly name: string; readonly socketPath: string }
  | { readonly kind: 'tcp'; readonly name: string; readonly host: string; readonly port: number; readonly token: string | undefined }

export function unixEndpoint(socketPath: string): Endpoint {
  return { kind: 'unix', name: `unix://${socketPath}`, socketPath }
}

/** STRATA_HOST (`unix:///…` or `http://host:port`; default the unix socket of `strata up`) with STRATA_TOKEN. */
export function readEndpoint(environment: NodeJS.ProcessEnv): Endpoint {
  const text = environment['STRATA_HOST'] || `unix://${DEFAULT_SOCKET}`
  if (text.startsWith('unix://')) {
    const path = text.slice('unix://'.length)
    if (!path.startsWith('/')) throw new CliError(`STRATA_HOST ${JSON.stringify(text)} names no absolute path: unix:///path/to/socket`)
    return unixEndpoint(path)
  }
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol !== 'http:' || url.hostname === '' || url.pathname !== '/')
    throw new CliError(`STRATA_HOST ${JSON.stringify(text)} is neither unix:///path nor http://host:port`)
  // WHATWG URLs keep the brackets of an IPv6 address; sockets want none.
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  return { kind: 'tcp', name: text, host, port: Number(url.port || 80), token: environment['STRATA_TOKEN'] || localToken(host, environment) }
}

/** On the service's own machine its 0600 token file says the token to whoever may read it. A token never goes to another machine unasked. */
function localToken(host: string, environment: NodeJS.ProcessEnv): string | undefined {
  if (host !== 'localhost' && host !== '::1' && !host.startsWith('127.')) return undefined
  try {
    return readFileSync(environment['STRATA_TOKEN_FILE'] || `${DEFAULT_DATA}/token`, 'utf8').trim() || undefined
  } catch {
    return undefined
  }
}
