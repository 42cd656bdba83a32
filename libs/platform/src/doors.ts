import { chmodSync, chownSync, lstatSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import { connect, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { Logger } from '@nestjs/common'
import { StrataError } from '@strata/oci'

/** Where a service listens. */
export type Door =
  | { readonly kind: 'unix'; readonly path: string; readonly mode: number; readonly group?: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }

/** `unix:///path` or `host:port`, `[v6]:port`. */
export function parseTcpDoor(text: string): Door {
  const match = /^(?:\[(?<v6>[0-9a-fA-F:.]+)\]|(?<host>[^:[\]]*)):(?<port>[0-9]{1,5})$/.exec(text)
  const port = Number(match?.groups?.['port'])
  if (!match || port > 65_535) throw new StrataError('bad_request', `${JSON.stringify(text)} is not HOST:PORT`)
  return { kind: 'tcp', host: match.groups?.['v6'] ?? match.groups?.['host'] ?? '', port }
}

export function doorText(door: Door): string {
  return door.kind === 'unix'
    ? `unix://${door.path}`
    : `http://${door.host.includes(':') ? `[${door.host}]` : door.host}:${door.port}`
}

/** Connections whose last request has come. */
const ending = new WeakSet<Socket>()
/** Fields of Node's that are no part of its API, so each may be absent or other. */
interface Internals {
  /** The connection's parser. */
  parser?: { onIncoming?: unknown } | null
  /**
   * The connection as libuv has it: bytes it was given, and those of them that the kernel has not
   * taken.
   */
  _handle?: { readonly bytesWritten?: unknown; readonly writeQueueSize?: unknown } | null
}
/** What the parser's callback answers to stop parsing here. */
const STOP_PARSING = 2

/**
 * Makes this request the last one of its connection, for clients that are not authenticated: the
 * connection is closed after the answer, and at once if another request comes before it.
 */
export function closeAfter(request: IncomingMessage, response: ServerResponse): void {
  const { socket } = request
  ending.add(socket)
  response.shouldKeepAlive = false
  destroyAtNext(socket)
}

/**
 * Node parses all requests of a packet before it goes on: some 1,100 fit into one read of 64 KiB,
 * and take 2.6 MB. So the parser is stopped too, where Node's is as we know it; else each request
 * behind is dropped in `openDoor`.
 */
function destroyAtNext(socket: Socket): void {
  const { parser } = socket as Internals
  if (typeof parser?.onIncoming !== 'function') return
  parser.onIncoming = () => {
    socket.destroy()
    return STOP_PARSING
  }
}

export interface ListenerLimits {
  /** Open connections at a time. One more is closed as soon as it is accepted. */
  readonly connections: number
  /**
   * How long a client may take from its connection, or from its last answer, to the end of a
   * request's headers.
   */
  readonly headersMs: number
  /**
   * How long a client may take nothing of an answer that has bytes for it. Its connection is cut
   * off then.
   */
  readonly unreadMs: number
}

/**
 * How long the rest of a body may still arrive after its request was answered. It is read and
 * dropped for that long: closing at once makes the kernel reset the connection, and the client may
 * never see the answer.
 */
export const LINGER_MS = 5_000
/**
 * How many requests of a connection may wait for the answers before them. With one more the
 * connection is closed.
 */
const MAX_WAITING = 16
/** How long a connection may stay open without a request. */
const KEEP_ALIVE_MS = 60_000

const WARN_EVERY_MS = 60_000

/** The request line and all headers: a thousand digests of `?have=`, each with its name. */
const MAX_HEADER = 128 * 1024

/**
 * Which listener accepted a connection. Written once, when the kernel hands the connection over.
 */
const acceptedBy = new WeakMap<Socket, Door>()
/** Connections whose client may stop reading the answer that is under way. */
const patient = new WeakSet<Socket>()
/** Responses whose client waits for `100 Continue` before it sends its body. */
const awaitsContinue = new WeakSet<ServerResponse>()

/**
 * The listener that accepted the request's connection; `undefined` for a server that `openDoor` did
 * not make.
 *
 * Never look at the socket's addresses to find this out: Node reports none for a TCP peer that has
 * reset its connection, exactly as for a unix socket.
 */
export function listenerOf(request: IncomingMessage): Door | undefined {
  return acceptedBy.get(request.socket)
}

/**
 * Tells a client that sent `Expect: 100-continue` to send its body. Does nothing for every other
 * client. A client that is answered without it keeps its body, and Node closes the connection after
 * the answer.
 */
export function continueBody(response: ServerResponse): void {
  if (awaitsContinue.delete(response) && !response.headersSent) response.writeContinue()
}

/**
 * Lets the client of this request stop reading its answer for as long as it likes, as a pager does.
 * Only for answers that hold little meanwhile, or bound what they hold themselves.
 */
export function letClientPause(request: IncomingMessage): void {
  patient.add(request.socket)
}

/**
 * Opens a door. A socket file whose owner died is replaced; one that answers, or a taken port, is
 * an error that says what to do.
 *
 * Every listener of every service is opened here, so all have the same limits:
 * - One request of a connection is served at a time. The handler of the next one is called when the
 *   answer before it is sent. Node calls it as soon as the request is parsed, and a client that
 *   sends 1,000 requests in one packet and reads nothing would have all of them at work.
 * - An answer of which the client takes nothing for `unreadMs` is cut off, unless its client may
 *   pause (`letClientPause`). One that has nothing to send may stay as long as it likes.
 * - There is no limit for a whole request: an archive may take hours. Whoever reads a body bounds
 *   it (RequestBodies, the intake); a body that nobody reads stays in the socket, and ends
 *   LINGER_MS after the answer with its connection.
 */
export async function openDoor(
  door: Door,
  handler: RequestListener,
  { connections, headersMs, unreadMs }: ListenerLimits,
): Promise<Server> {
  const queues = new WeakMap<Socket, Turn[]>()
  const unread = new UnreadAnswers(unreadMs, (socket) =>
    door.kind === 'tcp' ? socket.resetAndDestroy() : socket.destroy(),
  )
  /** Serves the first of the queue, and the next one after it. */
  const serveFirst = (socket: Socket, queue: readonly Turn[]): void => {
    const { request, response, answer } = queue[0]!
    unread.watch(socket)
    response.once('finish', () => closeIfUnread(request))
    response.once('close', () => {
      unread.forget(socket)
      patient.delete(socket)
      const turns = queues.get(socket)
      turns?.shift()
      // An answer that says `Connection: close` has ended the socket: what waits behind it is not
      // served.
      if (turns === undefined || turns.length === 0 || !socket.writable || ending.has(socket)) queues.delete(socket)
      else serveFirst(socket, turns)
    })
    answer(request, response)
  }
  const inTurn =
    (answer: RequestListener): RequestListener =>
    (request, response) => {
      const { socket } = request
      const queue = queues.get(socket) ?? []
      if (ending.has(socket) || queue.length > MAX_WAITING) {
        destroyAtNext(socket)
        socket.destroy()
        return
      }
      queue.push({ request, response, answer })
      queues.set(socket, queue)
      if (queue.length === 1) serveFirst(socket, queue)
    }
  const serve = inTurn(handler)
  const server = createServer(
    {
      requestTimeout: 0,
      headersTimeout: headersMs,
      // Node looks for late headers this often.
      connectionsCheckingInterval: Math.ceil(headersMs / 4),
      keepAliveTimeout: KEEP_ALIVE_MS,
      // TCP's own question, for clients whose machine is gone without a word.
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_MS,
      maxHeaderSize: MAX_HEADER,
    },
    serve,
  )
  server.maxConnections = connections
  let warned = -Infinity
  server.on('drop', () => {
    if (performance.now() - warned < WARN_EVERY_MS) return
    warned = performance.now()
    new Logger('http').warn(
      `${doorText(door)} has ${connections} open connections, which is its limit (STRATA_MAX_CONNECTIONS): more are closed`,
    )
  })
  server.once('close', () => unread.close())
  server.prependListener('connection', (socket) => acceptedBy.set(socket, door))
  // Without this listener Node sends `100 Continue` before the handler runs, to anyone.
  server.on('checkContinue', (request, response) => {
    awaitsContinue.add(response)
    serve(request, response)
  })
  server.on(
    'checkExpectation',
    inTurn((_request, response) => void response.writeHead(417, { connection: 'close' }).end()),
  )
  if (door.kind === 'unix') {
    mkdirSync(dirname(door.path), { recursive: true })
    const there = lstatSync(door.path, { throwIfNoEntry: false })
    // Somebody's file must not go for a socket.
    if (there && !there.isSocket())
      throw new StrataError(
        'bad_request',
        `${door.path} is no socket: move it away, or name another place for the socket`,
      )
    if (there) await removeStaleSocket(door.path)
  }
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(explain(door, error)))
    // Nobody may connect before the mode is right.
    const mask = process.umask(0o117)
    if (door.kind === 'unix') server.listen(door.path, resolve)
    else server.listen(door.port, door.host, resolve)
    process.umask(mask)
  })
  if (door.kind === 'unix') {
    const group = door.group === undefined ? undefined : groupId(door.group)
    if (group !== undefined) chownSync(door.path, process.getuid?.() ?? 0, group)
    chmodSync(door.path, door.mode)
  }
  return server
}

/** A request that has come, and who answers it. */
interface Turn {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly answer: RequestListener
}

/**
 * Cuts off connections that take nothing of an answer.
 *
 * Not `socket.setTimeout`: any byte that the client sends counts there, so it could hold its
 * answers for ever with an empty line a minute. And not the socket's own counts, which do not see
 * how much of a write is done.
 */
class UnreadAnswers {
  readonly #sent = new Map<Socket, { bytes: number; at: number }>()
  readonly #timer: NodeJS.Timeout

  /**
   * @param cut ends a connection: by a reset where there is one, so that the kernel drops what it
   * holds for the client
   */
  constructor(
    private readonly unreadMs: number,
    private readonly cut: (socket: Socket) => unknown,
  ) {
    this.#timer = setInterval(() => this.#look(), Math.ceil(unreadMs / 4)).unref()
  }

  watch(socket: Socket): void {
    this.#sent.set(socket, { bytes: 0, at: performance.now() })
  }

  forget(socket: Socket): void {
    this.#sent.delete(socket)
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    const now = performance.now()
    for (const [socket, last] of this.#sent) {
      const { bytesWritten: given, writeQueueSize: left } = (socket as Internals)._handle ?? {}
      if (typeof given !== 'number' || typeof left !== 'number') continue
      if (left === 0 || given - left !== last.bytes || patient.has(socket))
        this.#sent.set(socket, { bytes: given - left, at: now })
      else if (now - last.at >= this.unreadMs) this.cut(socket)
    }
  }
}

function closeIfUnread(request: IncomingMessage): void {
  if (request.complete || request.destroyed) return
  const timer = setTimeout(() => request.socket.destroy(), LINGER_MS)
  request.once('close', () => clearTimeout(timer))
}

async function removeStaleSocket(path: string): Promise<void> {
  const alive = await new Promise<boolean>((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.once('close', () => socket.destroy())
    socket.once('connect', () => socket.destroy())
  })
  if (alive)
    throw new StrataError(
      'bad_request',
      `Strata is already running on ${path}: stop it with \`strata down --socket ${path}\`, or name another socket`,
    )
  rmSync(path, { force: true })
}

function explain(door: Door, error: NodeJS.ErrnoException): Error {
  const where = doorText(door)
  if (error.code === 'EADDRINUSE')
    return new StrataError(
      'bad_request',
      `${where} is taken: stop what listens there, or choose another with --listen`,
      { cause: error },
    )
  if (error.code === 'EACCES')
    return new StrataError('bad_request', `no right to listen on ${where}: start as root, or choose another place`, {
      cause: error,
    })
  if (error.code === 'EADDRNOTAVAIL')
    return new StrataError('bad_request', `${where} is no address of this machine`, { cause: error })
  return new StrataError('bad_request', `cannot listen on ${where}: ${error.message}`, { cause: error })
}

function groupId(name: string): number | undefined {
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((text) => text.startsWith(`${name}:`))
  const id = Number(line?.split(':')[2])
  return Number.isInteger(id) ? id : undefined
}

/**
 * Ends a server: no new requests, idle connections closed at once, busy ones after `milliseconds`
 * at the latest.
 */
export async function closeDoor(server: Server, milliseconds: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  server.closeIdleConnections()
  const timer = setTimeout(() => server.closeAllConnections(), milliseconds)
  await closed
  clearTimeout(timer)
}
