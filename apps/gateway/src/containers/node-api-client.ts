import { Agent, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common'
import {
  NODE_API,
  pathOf,
  type Contract,
  type NodeApiAnswer,
  type NodeApiName,
  type NodeApiRequest,
  type RequestParts,
} from '@strata/api'
import { isErrorCode, StrataError, type ToldError } from '@strata/base'
import { readSecretFile } from '@strata/platform'
import { NodeDirectory, whyNoNode, type NodeRecord } from '@strata/queue'
import { GATEWAY_CONFIG, type GatewayConfig } from '../config.js'

const CONNECT_MS = 2_000
/** How often it is checked that the nodes of open requests are still registered. */
export const LOOK_MS = 2_000
/**
 * A node that is not registered at so many looks in a row counts as gone. Nodes register again
 * every 3 s, so a Redis that lost its data ends no request.
 */
export const MOST_MISSED = 5
/** How long a command goes on after its client has left, so that it reaches the node. */
export const LET_GO_MS = 5_000

/**
 * What may be asked of a node:
 * - `glance`: others know this too, if less exactly;
 * - `question`: the node answers from memory;
 * - `command`: the node works on its disk before it answers. It carries out the command even if the
 *   client leaves;
 * - `stop`: a command that may take as long as the caller gives the container to stop;
 * - `follow`: the answer comes as long as the container runs.
 */
export type Asking = 'glance' | 'question' | 'command' | 'stop' | 'follow'

/**
 * `withinMs`: the time in which the complete answer must arrive. `letGoMs`: how long the request
 * goes on after its client has left.
 */
export const ASKING: Readonly<Record<Asking, { readonly withinMs: number | undefined; readonly letGoMs: number }>> = {
  glance: { withinMs: 3_000, letGoMs: 0 },
  question: { withinMs: 10_000, letGoMs: 0 },
  command: { withinMs: 600_000, letGoMs: LET_GO_MS },
  stop: { withinMs: undefined, letGoMs: LET_GO_MS },
  follow: { withinMs: undefined, letGoMs: 0 },
}

/** How each route of the node API is asked. */
export const ASKED_AS: Readonly<Record<NodeApiName, Asking>> = {
  listContainers: 'glance',
  pruneContainers: 'command',
  getContainer: 'question',
  launchFailure: 'glance',
  waitContainer: 'follow',
  containerLogs: 'follow',
  stopContainer: 'stop',
  killContainer: 'command',
  removeContainer: 'command',
  usage: 'command',
  mountImage: 'command',
  umountImage: 'command',
}

/** What the connection of a request needs to know of it. */
interface Ask {
  readonly as: Asking
  /** Aborted when the client has left. */
  readonly gone: AbortSignal
}
interface Message {
  readonly method: string
  readonly path: string
  readonly body: unknown
}

/**
 * Calls the node API of nodes over HTTP, on a unix socket or TCP, with the shared secret. A problem
 * that a node answers is thrown as the error that it was there.
 *
 * Laws:
 * - Every request ends: by its answer, by its time (`ASKING`), when its client has left, or when
 *   its node is not registered any more. A machine that lost its power closes no connection, and a
 *   stopped process answers nothing.
 * - A request that has ended keeps no connection.
 */
@Injectable()
export class NodeApiClient implements OnApplicationShutdown {
  readonly #secret: string
  readonly #agent = new Agent({ keepAlive: true })
  readonly #open = new Set<OpenRequest>()
  #watch: NodeJS.Timeout | undefined

  constructor(
    @Inject(GATEWAY_CONFIG) config: Pick<GatewayConfig, 'STRATA_NODE_SECRET_FILE'>,
    @Inject(NodeDirectory) private readonly nodes: Pick<NodeDirectory, 'list' | 'statuses'>,
  ) {
    this.#secret = readSecretFile(config.STRATA_NODE_SECRET_FILE, 'STRATA_NODE_SECRET_FILE')
  }

  /**
   * Refuses a request that needs a node if no node is ready.
   * @throws StrataError `node_unavailable`
   */
  async requireNode(): Promise<void> {
    const statuses = await this.nodes.statuses()
    if (!statuses.some(({ state }) => state === 'ready')) throw new StrataError('node_unavailable', whyNoNode(statuses))
  }

  /**
   * Why a launch failed, with the message of the node that tried it: Redis has only the code.
   * `undefined` if no live node knows it (any more). All nodes are asked, because Redis does not
   * know the node of a launch that made no container.
   */
  async launchFailure(container: string, gone: AbortSignal): Promise<ToldError | undefined> {
    const asked = (await this.nodes.list()).map((node) =>
      this.call(node, 'launchFailure', { params: { id: container } }, gone),
    )
    return Promise.any(asked).catch(() => undefined)
  }

  /**
   * Sends a request to a node, and gives its answer, checked by the contract.
   * @param gone aborts when the client has left
   * @throws StrataError what the node answered; `node_unavailable`; `cancelled` if the client left
   */
  async call<N extends NodeApiName>(
    node: NodeRecord,
    name: N,
    request: NodeApiRequest<N> & RequestParts,
    gone: AbortSignal,
  ): Promise<NodeApiAnswer<N>> {
    const contract: Contract = NODE_API[name]
    return this.#during(node, { as: ASKED_AS[name], gone }, async (open) => {
      const answer = await text(await this.#answer(node, messageOf(contract, request), open), open)
      return contract.answer?.parse(JSON.parse(answer)) as NodeApiAnswer<N>
    })
  }

  /** As `call`. Hands the answer to `use`, its body unread, and ends the request after that. */
  async stream<N extends NodeApiName>(
    node: NodeRecord,
    name: N,
    request: NodeApiRequest<N> & RequestParts,
    gone: AbortSignal,
    use: (answer: IncomingMessage) => Promise<void>,
  ): Promise<void> {
    return this.#during(node, { as: ASKED_AS[name], gone }, async (open) =>
      use(await this.#answer(node, messageOf(NODE_API[name], request), open)),
    )
  }

  async #during<T>(node: NodeRecord, ask: Ask, work: (request: OpenRequest) => Promise<T>): Promise<T> {
    const request = new OpenRequest(node, ask)
    this.#open.add(request)
    this.#watch ??= setInterval(() => void this.#look(), LOOK_MS).unref()
    try {
      return await work(request)
    } finally {
      this.#open.delete(request)
      request.close()
      if (this.#open.size === 0) {
        clearInterval(this.#watch)
        this.#watch = undefined
      }
    }
  }

  /** While Redis does not answer, nothing is known of any node. */
  async #look(): Promise<void> {
    const alive = await this.nodes.list().catch(() => undefined)
    if (!alive) return
    const ids = new Set(alive.map(({ id }) => id))
    for (const request of this.#open) request.seen(ids.has(request.node.id))
  }

  async #answer(node: NodeRecord, { method, path, body }: Message, open: OpenRequest): Promise<IncomingMessage> {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
    const address = node.door.startsWith('unix://')
      ? { socketPath: node.door.slice('unix://'.length) }
      : urlParts(node.door)
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = httpRequest({
        ...address,
        agent: this.#agent,
        method,
        path,
        headers: {
          'x-strata-secret': this.#secret,
          ...(payload ? { 'content-type': 'application/json', 'content-length': payload.length } : {}),
        },
      })
      request.once('response', resolve)
      request.once('socket', (socket) => givenUp(socket, CONNECT_MS))
      // This listener stays: if the request is ended after the answer has come, it emits another
      // error.
      request.on('error', (cause) => reject(open.failure(cause)))
      open.began(request)
      request.end(payload)
    })
    if ((answer.statusCode ?? 500) < 400) return answer
    const problem = JSON.parse(await text(answer, open)) as { code?: unknown; detail?: unknown }
    // The caller cannot mend a wrong secret, so it does not get the node's own error.
    if (answer.statusCode === 401)
      throw new StrataError(
        'node_unavailable',
        `the node ${node.id} has another secret than this gateway: give both the same STRATA_NODE_SECRET_FILE`,
      )
    throw new StrataError(isErrorCode(problem.code) ? problem.code : 'internal', String(problem.detail))
  }

  onApplicationShutdown(): void {
    clearInterval(this.#watch)
    this.#agent.destroy()
  }
}

function messageOf({ method, path }: Contract, request: RequestParts): Message {
  return { method, path: pathOf(path, request), body: request.body }
}

/** A request from its beginning to its end, and what may end it before its answer. */
class OpenRequest {
  #request: ClientRequest | undefined
  #reason: StrataError | undefined
  #missed = 0
  readonly #timers: NodeJS.Timeout[] = []
  readonly #gone: AbortSignal
  readonly #onGone: () => void

  constructor(
    readonly node: NodeRecord,
    { as, gone }: Ask,
  ) {
    const { withinMs, letGoMs } = ASKING[as]
    if (withinMs !== undefined) this.#endIn(withinMs, () => this.#silent())
    const left = (): StrataError => new StrataError('cancelled', 'the request was given up')
    this.#onGone = () => {
      if (letGoMs === 0) this.#end(left())
      else this.#endIn(letGoMs, left)
    }
    this.#gone = gone
    if (gone.aborted) this.#onGone()
    else gone.addEventListener('abort', this.#onGone, { once: true })
  }

  began(request: ClientRequest): void {
    this.#request = request
    if (this.#reason) request.destroy(this.#reason)
  }

  seen(registered: boolean): void {
    this.#missed = registered ? 0 : this.#missed + 1
    if (this.#missed >= MOST_MISSED) this.#end(this.#silent())
  }

  /** The error that the caller gets. */
  failure(cause: unknown): StrataError {
    return this.#reason ?? this.#silent(cause)
  }

  close(): void {
    for (const timer of this.#timers) clearTimeout(timer)
    this.#gone.removeEventListener('abort', this.#onGone)
  }

  #silent(cause?: unknown): StrataError {
    return new StrataError(
      'node_unavailable',
      `the node ${this.node.id} does not answer`,
      cause === undefined ? {} : { cause },
    )
  }

  #endIn(milliseconds: number, reason: () => StrataError): void {
    this.#timers.push(setTimeout(() => this.#end(reason()), milliseconds).unref())
  }

  #end(reason: StrataError): void {
    this.#reason ??= reason
    this.#request?.destroy(this.#reason)
  }
}

/**
 * Ends a socket that is not connected in time: a machine that is gone answers nothing at all, for
 * minutes.
 */
function givenUp(socket: Socket, milliseconds: number): void {
  if (!socket.connecting) return
  const timer = setTimeout(() => socket.destroy(new Error('no connection in time')), milliseconds)
  socket.once('connect', () => clearTimeout(timer)).once('close', () => clearTimeout(timer))
}

function urlParts(address: string): { host: string; port: number } {
  const { hostname, port } = new URL(address)
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port) }
}

async function text(message: IncomingMessage, request: OpenRequest): Promise<string> {
  const pieces: Buffer[] = []
  try {
    for await (const piece of message as AsyncIterable<Buffer>) pieces.push(piece)
  } catch (cause) {
    throw request.failure(cause)
  }
  return Buffer.concat(pieces).toString('utf8')
}
