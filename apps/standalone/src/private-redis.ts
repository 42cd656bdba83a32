import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, constants, lstatSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { Logger } from '@nestjs/common'
import { flock, openOwnFile, ownFolder, setAside } from '@strata/linux'
import { StrataError } from '@strata/base'
import { orUnavailable, producerConnection } from '@strata/queue'

const START_MS = 15_000
/** unix(7): a socket's path has at most 107 bytes. */
const MAX_SOCKET_PATH = 107

/**
 * What redis-server says where its files are not what it wrote: no bytes, other bytes, a folder,
 * one of them missing. Nothing else it may say, of a full disk or a file that it may not open, is a
 * reason to put away what it kept.
 */
const DAMAGED = new RegExp(
  [
    'Bad file format reading the append only file',
    'Internal error in RDB',
    'Found an empty AOF manifest',
    'Invalid AOF manifest',
    'AOF manifest file contains',
    'Unable to obtain the AOF file .*: No such file or directory',
    '(append only file|AOF manifest file|append-only dir) .*: (Is|Not) a directory',
  ].join('|'),
)

/**
 * A redis-server of this data folder's own, on a unix socket, keeping what it is told (appendonly)
 * as far as a process may die; no write waits for the disk (a load of gigabytes keeps that busy for
 * seconds, and so would keep every answer of Redis). After a loss of power it may have old things,
 * or start empty where they cannot be read: nothing is lost by that but what nobody has begun. It
 * is a child of ours; one that an earlier, killed process left behind still holds the folder's
 * socket and goes on being used.
 */
export class PrivateRedis {
  readonly #logger = new Logger('redis')
  #stopping = false

  private constructor(
    private readonly folder: string,
    private readonly lock: number,
    private child: ChildProcess | undefined,
  ) {}

  static async start(folder: string): Promise<PrivateRedis> {
    ownFolder(folder)
    if (Buffer.byteLength(join(folder, 'redis.sock')) > MAX_SOCKET_PATH)
      throw new StrataError('bad_request', `the data folder's path is too long for a socket in it: ${folder}`)
    const lock = openOwnFile(join(folder, 'lock'))
    if (!flock(lock, 'ex', { nonblock: true })) {
      closeSync(lock)
      throw new StrataError(
        'bad_request',
        `Strata is already running on ${folder}: stop it with \`strata down\`, or name another data folder`,
      )
    }
    const redis = new PrivateRedis(folder, lock, undefined)
    if (!(await redis.#answers())) await redis.#spawn().catch((error: unknown) => redis.#startEmpty(error))
    return redis
  }

  /** Ends it, whoever started it; what it holds is on disk. */
  async stop(): Promise<void> {
    this.#stopping = true
    const client = producerConnection(this.#url)
    await once(client, 'ready')
    // The answer to a shutdown is the end of the connection.
    await client.shutdown().catch(() => undefined)
    client.disconnect()
    const child = this.child
    if (child && child.exitCode === null && child.signalCode === null)
      await new Promise((resolve) => child.once('exit', resolve))
    closeSync(this.lock)
  }

  get #url(): string {
    return `unix://${join(this.folder, 'redis.sock')}`
  }

  async #spawn(): Promise<void> {
    const logFile = join(this.folder, 'redis.log')
    const log = openOwnFile(logFile, constants.O_APPEND)
    const before = statSync(logFile).size
    // redis-server takes a socket or a file of that name away itself.
    if (lstatSync(join(this.folder, 'redis.sock'), { throwIfNoEntry: false })?.isDirectory())
      setAside(join(this.folder, 'redis.sock'))
    const options = {
      '--port': '0',
      '--unixsocket': 'redis.sock',
      '--unixsocketperm': '600',
      '--dir': this.folder,
      '--save': '',
      '--appendonly': 'yes',
      '--appendfsync': 'no',
      '--maxmemory-policy': 'noeviction',
      '--daemonize': 'no',
    }
    const child = spawn('redis-server', Object.entries(options).flat(), {
      stdio: ['ignore', log, log],
      cwd: this.folder,
    })
    closeSync(log)
    this.child = child
    let failure: Error | undefined
    child.once('error', (error: NodeJS.ErrnoException) => {
      failure = new StrataError(
        'queue_unavailable',
        error.code === 'ENOENT'
          ? 'redis-server is not installed: install it (apt-get install redis-server), or name one with STRATA_REDIS'
          : `redis-server: ${error.message}`,
      )
    })
    child.once('exit', (code, signal) => {
      const damage = DAMAGED.exec(textFrom(logFile, before))
      failure ??= damage
        ? new DamagedRedis(damage[0])
        : new StrataError('queue_unavailable', `redis-server ended (${signal ?? String(code)}): ${lastLine(logFile)}`)
      // Services wait for it and go on when it is back.
      if (!this.#stopping && started) this.#spawn().catch((error: unknown) => this.#logger.error(error))
    })
    let started = false
    const until = performance.now() + START_MS
    while (!(await this.#answers())) {
      if (failure) throw failure
      if (performance.now() > until)
        throw new StrataError('queue_unavailable', `redis-server does not answer: ${lastLine(logFile)}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    started = true
  }

  async #startEmpty(error: unknown): Promise<void> {
    if (!(error instanceof DamagedRedis)) throw error
    const aside = setAside(join(this.folder, 'appendonlydir'))
    this.#logger.warn(
      `what Redis kept cannot be read (${error.message}): it starts empty, and that is kept as ${aside}`,
    )
    await this.#spawn()
  }

  async #answers(): Promise<boolean> {
    const client = producerConnection(this.#url)
    try {
      if (!(await once(client, 'ready'))) return false
      await orUnavailable(client.ping())
      return true
    } catch {
      return false
    } finally {
      client.disconnect()
    }
  }
}

class DamagedRedis extends StrataError {
  constructor(words: string) {
    super('queue_unavailable', words)
  }
}

/** True when the event comes, false when an error comes first. */
async function once(client: ReturnType<typeof producerConnection>, event: 'ready'): Promise<boolean> {
  if (client.status === event) return true
  return new Promise((resolve) => {
    client.once(event, () => resolve(true))
    client.once('error', () => resolve(false))
    client.once('close', () => resolve(false))
  })
}

function textFrom(path: string, offset: number): string {
  return readFileSync(path).subarray(offset).toString('utf8')
}

function lastLine(path: string): string {
  return readFileSync(path, 'utf8').trimEnd().split('\n').at(-1) ?? ''
}
