import type { Socket } from 'node:net'
import ipaddr from 'ipaddr.js'
import { StrataError } from '@strata/base'
import { authorityOf, hostOf, portOf } from './destinations.js'
import { Unavailable } from './unavailable.js'

/** A proxy of the operator's: it may be anywhere. */
export interface Proxy {
  readonly url: URL
  /** The value of `Proxy-Authorization`. */
  readonly authorization: string | undefined
}

export type Environment = Readonly<Record<string, string | undefined>>

const MAX_HEAD = 16 * 1024

/**
 * The proxy for a URL, by the variables that every client reads: HTTPS_PROXY, HTTP_PROXY and
 * NO_PROXY, in capitals or not, as Go's clients (docker, containerd) understand them: NO_PROXY is a
 * list of hosts, `.domains`, addresses and networks, each with or without a port; `*` is all. This
 * machine is never asked through a proxy.
 *
 * @throws StrataError `bad_request` if the variable holds no URL of a proxy
 */
export function proxyFor(url: URL, environment: Environment): Proxy | undefined {
  const name = url.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY'
  const text = environment[name] || environment[name.toLowerCase()]
  if (!text || isExcepted(url, environment['NO_PROXY'] || environment['no_proxy'] || '')) return undefined
  const full = text.includes('://') ? text : `http://${text}`
  if (!URL.canParse(full) || !/^https?:$/.test(new URL(full).protocol))
    throw new StrataError('bad_request', `${name} is not the URL of an http or https proxy`)
  const proxy = new URL(full)
  const user = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`
  return {
    url: new URL(proxy.origin),
    authorization: user === ':' ? undefined : `Basic ${Buffer.from(user).toString('base64')}`,
  }
}

function isExcepted(url: URL, list: string): boolean {
  const host = hostOf(url).toLowerCase()
  const address = ipaddr.isValid(host) ? ipaddr.process(host) : undefined
  if (host === 'localhost' || address?.range() === 'loopback') return true
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .filter(Boolean)
    .some((entry) => {
      if (entry === '*') return true
      const [, name = entry, port] = /^(.*?):(\d+)$/.exec(ipaddr.isValid(entry) ? '' : entry) ?? []
      if (port !== undefined && Number(port) !== portOf(url)) return false
      const bare = name.replace(/^\[|\]$/g, '')
      if (address) return isWithin(address, bare)
      if (bare.startsWith('.') || bare.startsWith('*.')) return host.endsWith(bare.replace(/^\*/, ''))
      return host === bare || host.endsWith(`.${bare}`)
    })
}

function isWithin(address: ipaddr.IPv4 | ipaddr.IPv6, entry: string): boolean {
  if (ipaddr.isValidCIDR(entry)) {
    const net = ipaddr.parseCIDR(entry)
    return net[0].kind() === address.kind() && address.match(net)
  }
  return ipaddr.isValid(entry) && ipaddr.process(entry).toString() === address.toString()
}

/** Has the proxy open a tunnel through `socket` (RFC 9110, 9.3.6). */
export async function connectMethod(socket: Socket, proxy: Proxy, url: URL, late: AbortSignal): Promise<void> {
  const to = authorityOf(url)
  const lines = [`CONNECT ${to} HTTP/1.1`, `Host: ${to}`]
  if (proxy.authorization !== undefined) lines.push(`Proxy-Authorization: ${proxy.authorization}`)
  socket.write(`${lines.join('\r\n')}\r\n\r\n`, 'latin1')
  const status = await readHead(socket, late)
  if (/^HTTP\/1\.[01] 200(?: |$)/.test(status)) return
  throw new Unavailable(`the proxy ${proxy.url.host} opens no tunnel to ${to}: it answers ${JSON.stringify(status)}`, {
    isUnconnected: true,
  })
}

/** The first line of an answer without a body. Nothing may follow it: TLS begins with us. */
async function readHead(socket: Socket, late: AbortSignal): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  let head = Buffer.alloc(0)
  const onData = (bytes: Buffer): void => {
    head = Buffer.concat([head, bytes])
    const end = head.indexOf('\r\n\r\n')
    if (end >= 0 && end + 4 === head.length) resolve(head.toString('latin1', 0, head.indexOf('\r\n')).slice(0, 200))
    else if (end >= 0 || head.length > MAX_HEAD) reject(new Error('the answer of the proxy is not valid'))
  }
  const onClose = (): void => reject(new Error('the proxy closed the connection'))
  const onLate = (): void => reject(new Error('late'))
  socket.on('data', onData).once('close', onClose).once('error', reject)
  late.addEventListener('abort', onLate)
  try {
    return await promise
  } finally {
    socket.pause()
    socket.off('data', onData).off('close', onClose).off('error', reject)
    late.removeEventListener('abort', onLate)
  }
}
