import type { ClientRequest, IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import type { RequestOptions } from 'node:https'
import type {
  ApiAnswer,
  ApiName,
  ApiRequest,
  Descriptor,
  DESCRIPTOR_TYPE,
  Problem,
  REGISTRY_AUTH_HEADER,
} from '@strata/api'
import { pathOf, ROUTES, type RequestParts } from '@strata/api/routes'
import type { Readable } from 'node:stream'
import { DEFAULT_SOCKET, type Endpoint } from './endpoint.js'
import { CliError, reasonOf, UnreachableError } from './errors.js'
import { showWarnings } from './warnings.js'

// Not by `import`: that asks for every export of the module, and node:http answers with the whole
// of fetch and WebSocket, as long a start as all of Node's.
const { request } = process.getBuiltinModule('node:http')

/** The path and query of a route of the API, filled in. */
export function urlOf<N extends ApiName>(name: N, request: ApiRequest<N> & RequestParts): string {
  return pathOf(ROUTES[name].path, request)
}
export interface Upload {
  readonly bytes: Readable
  /** Known for a file; without it the body travels chunked. */
  readonly length?: number | undefined
}

export interface Manifest {
  readonly bytes: Buffer
  readonly mediaType: string
  readonly digest: string
}

const MAX_ANSWER = 64 * 1024 * 1024

const UNTRUSTED = 'nobody known vouches for its certificate. Name the file of its authority in STRATA_TLS_CA'
const NO_TLS = 'it does not speak TLS. Is it http://?'
/** By the code of Node.js's error. */
const TLS_REASONS: Readonly<Record<string, string>> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: UNTRUSTED,
  SELF_SIGNED_CERT_IN_CHAIN: UNTRUSTED,
  UNABLE_TO_GET_ISSUER_CERT: UNTRUSTED,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNTRUSTED,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNTRUSTED,
}
/** OpenSSL's reason in a message: `…:error:0A00010B:SSL routines:FUNCTION:REASON:FILE:LINE:`. */
const OPENSSL_REASON = /:error:[0-9A-F]+:[^:]*:[^:]*:([^:]+):/
/**
 * What OpenSSL says of an answer that is no TLS. Node.js may give every failed handshake the same
 * code.
 */
const NO_TLS_REASONS: readonly (string | undefined)[] = ['wrong version number', 'packet length too long']

/** Why a connection failed, in words. */
function reasonOfFailure({ code = '', message }: NodeJS.ErrnoException): string {
  const known = TLS_REASONS[code]
  if (known !== undefined) return known
  const reason = OPENSSL_REASON.exec(message)?.[1]
  if (NO_TLS_REASONS.includes(reason)) return NO_TLS
  return reason === undefined ? message : `the TLS handshake failed: ${reason}`
}

/**
 * The REST API over a unix socket or TCP, with TLS or without. Every call has a connection of its
 * own: streams that end early are simply closed. Every failure is a CliError: what the service
 * answered as a problem (`Error response: …`), or why it could not be reached.
 */
export class Client {
  constructor(readonly endpoint: Endpoint) {}

  /** The JSON answer; `undefined` where the answer has no body. */
  async call<N extends ApiName>(
    name: N,
    request: ApiRequest<N> & RequestParts,
    signal?: AbortSignal,
  ): Promise<ApiAnswer<N>> {
    return this.#call(name, urlOf(name, request), request.body, 'application/json', signal)
  }

  /** Has the service pull an image. `auth`: docker's header with the login for its registry. */
  async pull(
    query: ApiRequest<'loadImages'>['query'],
    auth: string | undefined,
    signal: AbortSignal,
  ): Promise<ApiAnswer<'loadImages'>> {
    const header: typeof REGISTRY_AUTH_HEADER = 'x-registry-auth'
    const { outgoing, answer } = this.#open(
      'POST',
      urlOf('loadImages', { query }),
      { 'content-length': 0, ...(auth !== undefined && { [header]: auth }) },
      signal,
    )
    outgoing.end()
    return this.#json<ApiAnswer<'loadImages'>>(await answer)
  }

  /** A page of a folder. `url`: with a path whose bytes are encoded already. */
  async listFiles(url: string): Promise<ApiAnswer<'listFiles'>> {
    return this.#call('listFiles', url, undefined, 'application/json', undefined)
  }

  /** Has the service read an archive that this process has open. */
  async loadOpenFile(
    url: string,
    named: Descriptor,
    type: typeof DESCRIPTOR_TYPE,
    signal: AbortSignal,
  ): Promise<ApiAnswer<'loadImages'>> {
    return this.#call('loadImages', url, named, type, signal)
  }

  async #call<N extends ApiName>(
    name: N,
    path: string,
    body: unknown,
    type: string,
    signal: AbortSignal | undefined,
  ): Promise<ApiAnswer<N>> {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
    const { outgoing, answer } = this.#open(
      ROUTES[name].method,
      path,
      payload && { 'content-type': type, 'content-length': payload.length },
      signal,
    )
    outgoing.end(payload)
    return this.#json<ApiAnswer<N>>(await answer)
  }

  /** A manifest's bytes, and what the service says that they are. */
  async manifest(name: string): Promise<Manifest> {
    const response = await this.stream(urlOf('getManifest', { params: { ref: name } }))
    const { 'content-type': mediaType = '', 'docker-content-digest': digest } = response.headers
    return { bytes: await this.#bytes(response), mediaType, digest: String(digest ?? '') }
  }

  /** The body as it comes: logs, events, archives. Ends early through `signal`. */
  async stream(path: string, signal?: AbortSignal, headers?: OutgoingHttpHeaders): Promise<IncomingMessage> {
    const { outgoing, answer } = this.#open('GET', path, headers, signal)
    outgoing.end()
    return this.#successful(await answer)
  }

  /**
   * Sends an archive. The service may answer before it took every byte: then the rest is not sent.
   */
  async upload(path: string, { bytes, length }: Upload, signal: AbortSignal): Promise<ApiAnswer<'loadImages'>> {
    const { outgoing, answer } = this.#open(
      'POST',
      path,
      { 'content-type': 'application/x-tar', ...(length === undefined ? {} : { 'content-length': length }) },
      signal,
    )
    // Not `pipeline`: at an early answer it would destroy the request, and the answer with it.
    const readFailed = new Promise<never>((_resolve, reject) => {
      bytes.once('error', (error) => {
        outgoing.destroy()
        reject(new CliError(`reading the archive failed: ${reasonOf(error)}`, { cause: error }))
      })
    })
    bytes.pipe(outgoing)
    try {
      const response = await Promise.race([answer, readFailed])
      bytes.unpipe(outgoing)
      return await this.#json<ApiAnswer<'loadImages'>>(response)
    } finally {
      bytes.destroy()
      outgoing.destroy()
    }
  }

  #open(
    method: string,
    path: string,
    headers: OutgoingHttpHeaders | undefined,
    signal: AbortSignal | undefined,
  ): { outgoing: ClientRequest; answer: Promise<IncomingMessage> } {
    const { endpoint } = this
    const token = endpoint.kind === 'tcp' ? endpoint.token : undefined
    const outgoing = send(endpoint, {
      method,
      path,
      headers: {
        accept: 'application/json',
        ...headers,
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
      agent: false,
      ...(signal && { signal }),
    })
    const answer = new Promise<IncomingMessage>((resolve, reject) => {
      outgoing.once('response', resolve)
      // Stays for the whole request: after the answer came, what breaks shows in the answer's
      // stream.
      outgoing.on('error', (error) => reject(unreachable(this.endpoint, error)))
    })
    // Whoever aborts a call may no longer await it.
    answer.catch(() => undefined)
    return { outgoing, answer }
  }

  async #json<T>(response: IncomingMessage): Promise<T> {
    const text = await this.#text(await this.#successful(response))
    if (text === '') return undefined as T
    try {
      return JSON.parse(text) as T
    } catch (error) {
      throw new CliError(`${this.endpoint.name} did not answer in JSON: is it Strata?`, { cause: error })
    }
  }

  async #successful(response: IncomingMessage): Promise<IncomingMessage> {
    showWarnings(response.headers.warning)
    const status = response.statusCode ?? 0
    if (status >= 200 && status < 300) return response
    const problem = asProblem(await this.#text(response))
    if (problem) throw new CliError(`Error response: ${problem.detail}`, { code: problem.code })
    throw new CliError(`${this.endpoint.name} answered ${status} ${response.statusMessage ?? ''}`.trimEnd())
  }

  async #text(response: IncomingMessage): Promise<string> {
    return (await this.#bytes(response)).toString()
  }

  async #bytes(response: IncomingMessage): Promise<Buffer> {
    const chunks: Buffer[] = []
    let size = 0
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        size += chunk.length
        if (size > MAX_ANSWER) throw new CliError(`${this.endpoint.name} answered with more than ${MAX_ANSWER} bytes`)
        chunks.push(chunk)
      }
    } catch (error) {
      throw error instanceof CliError ? error : unreachable(this.endpoint, error as NodeJS.ErrnoException)
    }
    return Buffer.concat(chunks)
  }
}

/** Why `endpoint` could not be reached, or broke off. */
export function unreachable({ name }: Endpoint, error: NodeJS.ErrnoException): UnreachableError {
  const because = (sentence: string): UnreachableError => new UnreachableError(sentence, { cause: error })
  if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') {
    // Elsewhere another service may be meant, whose data `strata up` must not use as well.
    const advice = name === `unix://${DEFAULT_SOCKET}` ? ' (strata up)' : ''
    return because(`Cannot connect to Strata at ${name}. Is it running?${advice}`)
  }
  if (error.code === 'EACCES' || error.code === 'EPERM')
    return because(`permission denied while connecting to Strata at ${name}: be root, or of the socket's group`)
  if (error.code === 'ECONNRESET' || error.code === 'EPIPE')
    return because(`the connection to Strata at ${name} broke before its answer was whole`)
  return because(`cannot talk to Strata at ${name}: ${reasonOfFailure(error)}`)
}

function send(endpoint: Endpoint, options: RequestOptions): ClientRequest {
  if (endpoint.kind === 'unix') return request({ ...options, socketPath: endpoint.socketPath })
  const { host, port, lookup, tls } = endpoint
  const to = { ...options, host, port, ...(lookup && { lookup }) }
  if (!tls) return request(to)
  // Loaded only now: it takes 4 ms of a command's start. Without `rejectUnauthorized` the variable
  // NODE_TLS_REJECT_UNAUTHORIZED decides.
  return process.getBuiltinModule('node:https').request({ ...to, ...tls, rejectUnauthorized: true })
}

function asProblem(text: string): Problem | undefined {
  try {
    const value = JSON.parse(text) as Partial<Problem> | null
    return typeof value?.detail === 'string' && typeof value.code === 'string' ? (value as Problem) : undefined
  } catch {
    return undefined
  }
}
