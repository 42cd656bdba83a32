import { createHash } from 'node:crypto'
import { createSecureContext, getCACertificates, rootCertificates, type SecureContext } from 'node:tls'

/** How a server is recognised, and what we show it. PEM texts. */
export interface Trust {
  /** Certificates of authorities, beside those of the system. */
  readonly ca: readonly string[]
  readonly client: readonly { readonly cert: string; readonly key: string }[]
  /** Whoever answers is believed. */
  readonly isBlind: boolean
}

export const SYSTEM_TRUST: Trust = { ca: [], client: [], isBlind: false }

/** The same text for the same trust: connections are kept apart by it. */
export function trustKey({ ca, client, isBlind }: Trust): string {
  if (ca.length === 0 && client.length === 0) return String(isBlind)
  return createHash('sha256').update(JSON.stringify({ ca, client, isBlind })).digest('hex')
}

/** Reading the system's certificates takes some ten milliseconds, so once for a process. */
let systemRoots: readonly string[] | undefined

export function secureContext({ ca, client }: Trust): SecureContext {
  if (!systemRoots) {
    const system = getCACertificates('system')
    systemRoots = system.length > 0 ? system : rootCertificates
  }
  return createSecureContext({
    ca: [...systemRoots, ...ca],
    ...(client.length > 0 ? { cert: client.map(({ cert }) => cert), key: client.map(({ key }) => key) } : {}),
  })
}
