import { Agent, request, type ClientRequest, type ClientRequestArgs, type IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { SecureContext } from 'node:tls'
import { orAborted, Slots } from '@strata/base'
import type { RemoteLimits } from '../limits.js'
import { connect } from './connect.js'
import { authorityOf, hostOf, portOf, type Destination } from './destinations.js'
import { proxyFor, type Environment, type Proxy } from './proxies.js'
import { Unavailable } from './unavailable.js'
import { secureContext, trustKey, type Trust } from './trust.js'

/** How long a connection is kept that nobody uses. Servers close theirs after 5 s or more. */
const IDLE_MS = 4_000
/** Ways of trust that keep connections at the same time; the oldest one is closed for another. */
const MAX_AGENTS = 64

export interface Outgoing {
  readonly destination: Destination
  readonly trust: Trust
  readonly method: 'GET' | 'POST'
  readonly headers: Readonly<Record<string, string | readonly string[]>>
  readonly body?: string | undefined
  /** Its body takes its time. */
  readonly isBulk: boolean
}

/** Node hands these through to the agent. */
interface RouteOptions extends ClientRequestArgs {
  destination?: Destination
  /** Ends the connecting, too: Node keeps `signal` from the agent. */
  abandon?: AbortSignal
}

/**
 * The connections of a process to other registries, kept for the next request. They are made by
 * Node's own client, as those to S3: services have it loaded already, its limits are ours to set,
 * and its parser reads a body without a copy.
 */
export class Connections {
  readonly #agents = new Map<string, RouteAgent>()
  #isClosed = false

  constructor(
    private readonly limits: RemoteLimits,
    private readonly environment: Environment,
  ) {}

  /**
   * Sends a request, and resolves with the head of the answer. Redirections are answers. A signal
   * that aborts closes the connection, also later, while the body is read.
   *
   * @throws what Node throws, and what `connect` does
   */
  async send(
    { destination, trust, method, headers, body, isBulk }: Outgoing,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    if (this.#isClosed) throw new Error('the client of registries is closed')
    const { url } = destination
    const proxy = proxyFor(url, this.environment)
    const isAsked = proxy !== undefined && url.protocol === 'http:'
    const agent = this.#agent(destination, trust, proxy, isBulk)
    const options: RouteOptions = {
      agent,
      destination,
      abandon: signal,
      method,
      host: hostOf(url),
      port: portOf(url),
      path: isAsked ? url.href : url.pathname + url.search,
      headers: {
        host: url.host,
        ...headers,
        ...(isAsked && proxy.authorization !== undefined ? { 'proxy-authorization': proxy.authorization } : {}),
      },
      maxHeaderSize: this.limits.maxHeaderBytes,
      insecureHTTPParser: false,
      signal,
    }
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const whole = async (): Promise<void> => {
      const outgoing = request(options)
      const closed = new Promise((close) => outgoing.once('close', close))
      outgoing.end(body)
      answerOf(outgoing, this.limits.headMs).then(resolve, reject)
      await closed
    }
    agent.inTurn(agent.getName(options), signal, whole).catch(reject)
    // Without a connection yet, Node tells an abort only when there is one.
    return await orAborted(promise, signal)
  }

  close(): void {
    this.#isClosed = true
    for (const agent of this.#agents.values()) agent.destroy()
    this.#agents.clear()
  }

  #agent(destination: Destination, trust: Trust, proxy: Proxy | undefined, isBulk: boolean): RouteAgent {
    const key = JSON.stringify([isBulk, destination.isNamed, trustKey(trust), proxy?.url.href, proxy?.authorization])
    const known = this.#agents.get(key)
    if (known) this.#agents.delete(key)
    const agent = known ?? new RouteAgent(trust, proxy, this.limits)
    this.#agents.set(key, agent)
    if (this.#agents.size > MAX_AGENTS) {
      const [oldest] = this.#agents
      this.#agents.delete(oldest![0])
      // Connections in use go on; they are not kept behind their answers.
      oldest![1].retire()
    }
    return agent
  }
}

/**
 * Connections of one way of trust: what was connected without a look at its address is used by
 * nobody who needs that look. Within it they are kept by scheme, host and port.
 */
class RouteAgent extends Agent {
  readonly #turns = new Map<string, { readonly slots: Slots; users: number }>()
  #context: SecureContext | undefined

  constructor(
    private readonly trust: Trust,
    private readonly proxy: Proxy | undefined,
    private readonly limits: RemoteLimits,
  ) {
    super({
      keepAlive: true,
      maxSockets: limits.maxConnections,
      maxFreeSockets: limits.maxConnections,
      timeout: IDLE_MS,
    })
  }

  override getName(options?: RouteOptions): string {
    const url = options?.destination?.url
    return url ? `${url.protocol}//${authorityOf(url)}` : ''
  }

  /** Node does not count connections that are still being made, so requests are counted. */
  async inTurn(name: string, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    const turn = this.#turns.get(name) ?? { slots: new Slots(this.limits.maxConnections), users: 0 }
    this.#turns.set(name, turn)
    turn.users++
    try {
      await turn.slots.run(signal, work)
    } finally {
      if (--turn.users === 0) this.#turns.delete(name)
    }
  }

  override createConnection(options: RouteOptions, done?: (error: Error | null, socket: Duplex) => void): null {
    const { destination, abandon } = options
    if (!destination || !abandon || !done) throw new TypeError('a connection needs its destination')
    this.#context ??= secureContext(this.trust)
    const { isBlind } = this.trust
    const { connectMs } = this.limits
    connect(destination, { context: this.#context, isBlind, proxy: this.proxy, connectMs }, abandon).then(
      (socket) => done(null, socket),
      (error: unknown) => (done as (error: unknown) => void)(error),
    )
    return null
  }

  retire(): void {
    for (const sockets of Object.values(this.freeSockets)) for (const socket of sockets ?? []) socket.destroy()
    this.maxFreeSockets = 0
  }
}

/** The time counts from the connection on: a request may wait for one behind others. */
async function answerOf(outgoing: ClientRequest, headMs: number): Promise<IncomingMessage> {
  let timer: NodeJS.Timeout | undefined
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  outgoing.once('response', resolve)
  outgoing.once('socket', () => {
    timer = setTimeout(() => outgoing.destroy(new Unavailable(`no answer came within ${headMs / 1000} s`)), headMs)
  })
  // Also later: an aborted request emits one more error.
  outgoing.on('error', reject)
  // `Upgrade` was not asked for.
  outgoing.once('upgrade', (_, socket) => {
    socket.destroy()
    reject(new Error('the answer changes the protocol'))
  })
  try {
    return await promise
  } finally {
    clearTimeout(timer)
  }
}
