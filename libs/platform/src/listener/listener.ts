import { StrataError } from '@strata/base'

/** Where a service listens. */
export type Listener =
  | { readonly kind: 'unix'; readonly path: string; readonly mode: number; readonly group?: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }

/** `unix:///path` or `host:port`, `[v6]:port`. */
export function parseTcpListener(text: string): Listener {
  const match = /^(?:\[(?<v6>[0-9a-fA-F:.]+)\]|(?<host>[^:[\]]*)):(?<port>[0-9]{1,5})$/.exec(text)
  const port = Number(match?.groups?.['port'])
  if (!match || port > 65_535) throw new StrataError('bad_request', `${JSON.stringify(text)} is not HOST:PORT`)
  return { kind: 'tcp', host: match.groups?.['v6'] ?? match.groups?.['host'] ?? '', port }
}

export function listenerText(listener: Listener): string {
  return listener.kind === 'unix'
    ? `unix://${listener.path}`
    : `http://${listener.host.includes(':') ? `[${listener.host}]` : listener.host}:${listener.port}`
}
