import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common'
import { isErrorCode, StrataError, type ToldError } from '@strata/oci'
import { readSecretFile } from '@strata/platform'
import { NodeDirectory, whyNoNode, type NodeRecord } from '@strata/queue'
import { GATEWAY_CONFIG, type GatewayConfig } from '../config.js'

const CONNECT_MS = 2_000
/** A caller who has an answer already waits no longer for a better one. */
const FAILURE_MS = 2_000

/**
 * The nodes' internal doors: logs, wait, stop and mounts are asked of the node itself, over HTTP on a unix socket or TCP, with the shared
 * secret. A node's problem comes out as the error it was.
 */
@Injectable()
export class NodeDoors implements OnApplicationShutdown {
  readonly #secret: string
  readonly #agent = new Agent({ keepAlive: true })

  constructor(
    @Inject(GATEWAY_CONFIG) config: GatewayConfig,
    private readonly nodes: NodeDirectory,
  ) {
    this.#secret = readSecretFile(config.STRATA_NODE_SECRET_FILE, 'STRATA_NODE_SECRET_FILE')
  }

  /** A request that needs a node is refused at once where none can take it. */
  async requireNode(): Promise<void> {
    const statuses = await this.nodes.statuses()
    if (!statuses.some(({ state }) => state === 'ready')) throw new StrataError('node_unavailable', whyNoNode(statuses))
  }

  /**
   * Why a launch failed, as the node that tried it tells the caller: Redis has no more than the code. Undefined where no
   * living node knows (any more). All are asked: of a launch that no container came of, Redis does not know the node.
   */
  async launchFailure(container: string): Promise<ToldError | undefined> {
    const signal = AbortSignal.timeout(FAILURE_MS)
    const asked = (await this.nodes.list()).map((node) => this.json<ToldError>(node, 'GET', `/containers/${container}/failure`, undefined, signal))
    return Promise.any(asked).catch(() => undefined)
  }

  async json<T>(node: NodeRecord, method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    const answer = await this.stream(node, method, path, body, signal)
    return JSON.parse((await text(answer, node, signal)) || 'null') as T
  }

  /** The answer, its body unread. */
  async stream(node: NodeRecord, method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<IncomingMessage> {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
    const address = node.door.startsWith('unix://') ? { socketPath: node.door.slice('unix://'.length) } : urlParts(node.door)
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = httpRequest({
        ...address,
        agent: this.#agent,
        method,
        path,
        ...(signal ? { signal } : {}),
        headers: { 'x-strata-secret': this.#secret, ...(payload ? { 'content-type': 'application/json', 'content-length': payload.length } : {}) },
      })
      request.once('response', resolve)
      request.once('socket', (socket) => givenUp(socket, CONNECT_MS))
      // Stays: a signal that aborts after the answer has come is an error of the request once more.
      request.on('error', (cause) => reject(broken(node, signal, cause)))
      request.end(payload)
    })
    if ((answer.statusCode ?? 500) < 400) return answer
    const problem = JSON.parse(await text(answer, node, signal)) as { code?: unknown; detail?: unknown }
    // What the node has against this gateway is not the caller's to mend.
    if (answer.statusCode === 401) throw new StrataError('node_unavailable', `the node ${node.id} has another secret than this gateway: give both the same STRATA_NODE_SECRET_FILE`)
    throw new StrataError(isErrorCode(problem.code) ? problem.code : 'internal', String(problem.detail))
  }

  onApplicationShutdown(): void {
    this.#agent.destroy()
  }
}

function broken(node: NodeRecord, signal: AbortSignal | undefined, cause: unknown): StrataError {
  return signal?.aborted ? new StrataError('cancelled', 'the request was given up') : new StrataError('node_unavailable', `the node ${node.id} does not answer`, { cause })
}

/** Ends a socket that is not connected in time: a machine that is gone answers nothing at all, for minutes. */
function givenUp(socket: Socket, milliseconds: number): void {
  if (!socket.connecting) return
  const timer = setTimeout(() => socket.destroy(new Error('no connection in time')), milliseconds)
  socket.once('connect', () => clearTimeout(timer)).once('close', () => clearTimeout(timer))
}

function urlParts(door: string): { host: string; port: number } {
  const { hostname, port } = new URL(door)
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port) }
}

async function text(message: IncomingMessage, node: NodeRecord, signal: AbortSignal | undefined): Promise<string> {
  const pieces: Buffer[] = []
  try {
    for await (const piece of message as AsyncIterable<Buffer>) pieces.push(piece)
  } catch (cause) {
    throw broken(node, signal, cause)
  }
  return Buffer.concat(pieces).toString('utf8')
}
