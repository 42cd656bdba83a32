import { connect as connectPlain, isIP, type Socket } from 'node:net'
import { connect as connectTls, type SecureContext } from 'node:tls'
import { orAborted, StrataError } from '@strata/base'
import { addressesOf, authorityOf, hostOf, portOf, type Destination } from './destinations.js'
import { connectMethod, type Proxy } from './proxies.js'
import { Unavailable } from './unavailable.js'

export interface ConnectOptions {
  readonly context: SecureContext
  readonly isBlind: boolean
  readonly proxy: Proxy | undefined
  readonly connectMs: number
}

/**
 * A connection to a destination, with TLS where its URL says so. Names are resolved here, once; the
 * addresses that `addressesOf` allows are the ones that are used.
 *
 * @throws StrataError `address_refused`, `registry_unavailable` (`Unavailable` if it may be tried
 *   again); the signal's reason
 */
export async function connect(destination: Destination, options: ConnectOptions, signal: AbortSignal): Promise<Socket> {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), options.connectMs)
  try {
    return await connectBefore(AbortSignal.any([late.signal, signal]), destination, options)
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof StrataError) throw error
    const where = authorityOf(destination.url)
    if (late.signal.aborted)
      throw new Unavailable(`${where} did not accept a connection within ${options.connectMs / 1000} s`, {
        isUnconnected: true,
      })
    throw connectFailure(error, where)
  } finally {
    clearTimeout(timer)
  }
}

async function connectBefore(
  late: AbortSignal,
  destination: Destination,
  { proxy, context, isBlind }: ConnectOptions,
): Promise<Socket> {
  const { url } = destination
  const raw = proxy
    ? await opened(connectPlain({ host: hostOf(proxy.url), port: portOf(proxy.url) }), 'connect', late)
    : await direct(destination, late)
  if (url.protocol === 'http:' && proxy?.url.protocol !== 'https:') return raw
  try {
    let socket = raw
    if (proxy?.url.protocol === 'https:') socket = await secured(socket, hostOf(proxy.url), { late })
    if (url.protocol === 'http:') return socket
    if (proxy) await connectMethod(socket, proxy, url, late)
    return await secured(socket, hostOf(url), { late, context, isBlind })
  } catch (error) {
    raw.destroy()
    throw error
  }
}

async function direct(destination: Destination, late: AbortSignal): Promise<Socket> {
  const addresses = await orAborted(addressesOf(destination), late)
  const socket = connectPlain({
    host: hostOf(destination.url),
    port: portOf(destination.url),
    // A literal address is not looked up; `addressesOf` has looked at it.
    lookup: (_, { all }, done) => {
      if (all) done(null, addresses)
      else done(null, addresses[0]!.address, addresses[0]!.family)
    },
  })
  return opened(socket, 'connect', late)
}

async function secured(
  socket: Socket,
  host: string,
  { late, context, isBlind = false }: { late: AbortSignal; context?: SecureContext; isBlind?: boolean },
): Promise<Socket> {
  const secure = connectTls({
    socket,
    host,
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ...(context ? { secureContext: context } : {}),
    ALPNProtocols: ['http/1.1'],
    // Without it the variable NODE_TLS_REJECT_UNAUTHORIZED decides.
    rejectUnauthorized: !isBlind,
  })
  return opened(secure, 'secureConnect', late)
}

async function opened(socket: Socket, event: 'connect' | 'secureConnect', late: AbortSignal): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>()
  const onLate = (): void => reject(new Error('late'))
  socket.once(event, () => resolve(undefined))
  socket.once('error', reject)
  socket.once('close', () => reject(new Error('the connection was closed')))
  late.addEventListener('abort', onLate)
  if (late.aborted) onLate()
  try {
    await promise
    socket.setNoDelay(true)
    return socket
  } catch (error) {
    socket.on('error', () => undefined)
    socket.destroy()
    throw error
  } finally {
    late.removeEventListener('abort', onLate)
    socket.removeListener('error', reject)
  }
}

/** A certificate that is not believed and a name that nobody has stay so: they are final. */
function connectFailure(error: unknown, where: string): StrataError {
  const cause = error as NodeJS.ErrnoException
  const code = cause.code ?? ''
  if (isCertificateError(code))
    return new StrataError(
      'registry_unavailable',
      `the certificate of ${where} is not trusted (${cause.message}): put the certificate of its authority into the ` +
        'hosts configuration, or use --insecure',
      { cause },
    )
  if (code === 'ENOTFOUND') return new StrataError('registry_unavailable', `nobody knows the host ${where}`, { cause })
  const words = code === 'ECONNREFUSED' ? 'it refuses the connection' : cause.message || code
  return new Unavailable(`${where} cannot be reached: ${words}`, { cause, isUnconnected: true })
}

function isCertificateError(code: string): boolean {
  return /^(?:CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|ERR_TLS_CERT_|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_)/.test(
    code,
  )
}
