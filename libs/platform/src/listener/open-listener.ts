import { chmodSync, chownSync, lstatSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import { connect, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { Logger } from '@nestjs/common'
import { StrataError } from '@strata/base'
import { acceptConnection } from './connection.js'
import { listenerText, type Listener } from './listener.js'
import { endAfterClientError } from './client-errors.js'
import { Turns } from './turns.js'
import { UnreadAnswers } from './unread-answers.js'
import { asksForUpgrade, serveUpgrade } from './upgrade.js'

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
   * off then. The least rate (unread-answers.ts) is on the average of at least this.
   */
  readonly unreadMs: number
}

/** How long a connection may stay open without a request. */
const KEEP_ALIVE_MS = 60_000

const WARN_EVERY_MS = 60_000

/** The request line and all headers: a thousand digests of `?have=`, each with its name. */
const MAX_HEADER = 128 * 1024

/**
 * Opens a listener. A socket file whose owner died is replaced; one that answers, or a taken port,
 * is an error that says what to do.
 *
 * Every listener of every service is opened here, so that all have the same limits. Each connection
 * has one record (connection.ts). Its requests are served one after the other (turns.ts), and an
 * answer that is not read is cut off (unread-answers.ts).
 *
 * There is no limit for a whole request: an archive may take hours. Whoever reads a body bounds it
 * (RequestBodies, the intake).
 */
export async function openListener(
  listener: Listener,
  handler: RequestListener,
  { connections, headersMs, unreadMs }: ListenerLimits,
): Promise<Server> {
  const unread = new UnreadAnswers(unreadMs, ({ socket }) =>
    listener.kind === 'tcp' ? socket.resetAndDestroy() : socket.destroy(),
  )
  const turns = new Turns(unread)
  const take =
    (answer: RequestListener, awaitsContinue = false): RequestListener =>
    (request, response) =>
      turns.take({ request, response, answer, awaitsContinue })
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
      shouldUpgradeCallback: asksForUpgrade,
    },
    take(handler),
  )
  server.maxConnections = connections
  let warned = -Infinity
  server.on('drop', () => {
    if (performance.now() - warned < WARN_EVERY_MS) return
    warned = performance.now()
    new Logger('http').warn(
      `${listenerText(listener)} has ${connections} open connections, which is its limit (STRATA_MAX_CONNECTIONS): more are closed`,
    )
  })
  server.once('close', () => unread.close())
  const open = new Set<Socket>()
  sockets.set(server, open)
  server.prependListener('connection', (socket) => {
    acceptConnection(socket, listener)
    open.add(socket.once('close', () => open.delete(socket)))
  })
  server.on('clientError', (error, socket) => endAfterClientError(error, socket as Socket))
  server.on('upgrade', (request, socket, head) => serveUpgrade(turns, handler, request, socket as Socket, head))
  // Without this listener Node sends `100 Continue` before the handler runs, to anyone.
  server.on('checkContinue', take(handler, true))
  // Unknown expectations are ignored (RFC 9110, 10.1.1). Node would answer 417, to anyone.
  server.on('checkExpectation', take(handler))
  if (listener.kind === 'unix') {
    mkdirSync(dirname(listener.path), { recursive: true })
    const there = lstatSync(listener.path, { throwIfNoEntry: false })
    // Somebody's file must not go for a socket.
    if (there && !there.isSocket())
      throw new StrataError(
        'bad_request',
        `${listener.path} is no socket: move it away, or name another place for the socket`,
      )
    if (there) await removeStaleSocket(listener.path)
  }
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(explain(listener, error)))
    // Nobody may connect before the mode is right.
    const mask = process.umask(0o117)
    if (listener.kind === 'unix') server.listen(listener.path, resolve)
    else server.listen(listener.port, listener.host, resolve)
    process.umask(mask)
  })
  if (listener.kind === 'unix') {
    const group = listener.group === undefined ? undefined : groupId(listener.group)
    if (group !== undefined) chownSync(listener.path, process.getuid?.() ?? 0, group)
    chmodSync(listener.path, listener.mode)
  }
  return server
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

function explain(listener: Listener, error: NodeJS.ErrnoException): Error {
  const where = listenerText(listener)
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

/** The open connections of each server. Node forgets those that have left HTTP. */
const sockets = new WeakMap<Server, ReadonlySet<Socket>>()

/**
 * Ends a server: no new requests, idle connections closed at once, busy ones after `milliseconds`
 * at the latest, also those that have left HTTP.
 */
export async function closeListener(server: Server, milliseconds: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  server.closeIdleConnections()
  const timer = setTimeout(() => {
    for (const socket of sockets.get(server) ?? []) socket.destroy()
  }, milliseconds)
  await closed
  clearTimeout(timer)
}
