import { lookup } from 'node:dns/promises'
import type { LookupAddress } from 'node:dns'
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import type { ConnectionOptions } from 'node:tls'
import { CliError, reasonOf } from '../errors.js'

// Not by `import`: see client.ts.
const { BlockList, isIP } = process.getBuiltinModule('node:net')

const MAX_MS = 15_000
const MAX_BODY = 1024 * 1024

export interface Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

/** How a server is reached. `tls`: who may vouch for it. */
export interface Route {
  readonly addresses: readonly LookupAddress[]
  readonly tls: ConnectionOptions
}

/** The addresses of a host; they are asked for once, and what is connected to is one of them. */
export async function addressesOf(host: string): Promise<LookupAddress[]> {
  try {
    return await lookup(unbracketed(host), { all: true })
  } catch (error) {
    throw new CliError(`cannot find the address of ${host}: ${reasonOf(error)}`, { cause: error })
  }
}

/** `GET`, without following where the answer leads. */
export async function get(url: URL, { addresses, tls }: Route, headers: OutgoingHttpHeaders): Promise<Answer> {
  const isTls = url.protocol === 'https:'
  const { request } = isTls ? process.getBuiltinModule('node:https') : process.getBuiltinModule('node:http')
  const host = unbracketed(url.hostname)
  const options = {
    host,
    port: url.port || (isTls ? 443 : 80),
    path: `${url.pathname}${url.search}`,
    headers: { host: url.host, 'user-agent': 'strata', ...headers },
    agent: false as const,
    signal: AbortSignal.timeout(MAX_MS),
    lookup: (_host: string, _options: object, found: (error: null, all: LookupAddress[]) => void) =>
      found(null, [...addresses]),
    ...(isTls && { ...tls, ...(isIP(host) === 0 && { servername: host }) }),
  }
  try {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request(options, resolve)
        .once('error', reject)
        // It was not asked for, and Node would tell of it in no other way.
        .once('upgrade', (_, socket) => {
          socket.destroy()
          reject(new Error('the answer changes the protocol'))
        })
        .end()
    })
    return { status: response.statusCode ?? 0, headers: response.headers, body: await textOf(response, url) }
  } catch (error) {
    if (error instanceof CliError) throw error
    const why = error instanceof Error && error.name === 'TimeoutError' ? 'no answer in time' : reasonOf(firstOf(error))
    throw new CliError(`Get "${url.origin}${url.pathname}": ${why}`, { cause: error })
  }
}

/** All addresses of a host have failed, each for its own reason. */
function firstOf(error: unknown): unknown {
  return error instanceof AggregateError ? error.errors[0] : error
}

async function textOf(response: IncomingMessage, url: URL): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_BODY) throw new CliError(`${url.host} answered with more than ${MAX_BODY} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

/** WHATWG URLs keep the brackets of an IPv6 address; sockets want none. */
function unbracketed(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1')
}

/** What no address of the internet is: RFC 6890, and later entries of IANA's registries of them. */
const NOT_PUBLIC: readonly (readonly [net: string, prefix: number])[] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['192.88.99.0', 24],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  // The wire server of Azure's machines.
  ['168.63.129.16', 32],
  ['224.0.0.0', 3],
  // An IPv4 address in IPv6 is looked at by BlockList as the IPv4 address that it is.
  ['::', 96],
  ['64:ff9b::', 96],
  ['64:ff9b:1::', 48],
  ['100::', 64],
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
  ['fc00::', 7],
  ['fe80::', 10],
  ['fec0::', 10],
  ['ff00::', 8],
]

const family = (address: string): 'ipv4' | 'ipv6' => (isIP(address) === 4 ? 'ipv4' : 'ipv6')

export function isPublic({ address }: LookupAddress): boolean {
  const list = new BlockList()
  for (const [net, prefix] of NOT_PUBLIC) list.addSubnet(net, prefix, family(net))
  // A link-local address may come with its interface.
  return !list.check(address.replace(/%.*$/, ''), family(address.replace(/%.*$/, '')))
}
