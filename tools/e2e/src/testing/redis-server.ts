import { spawn, type ChildProcess } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { Redis } from 'ioredis'

/**
 * The Redis of services that run apart, in the folder where `strata up` would have its private one.
 */
export class RedisServer {
  #process: ChildProcess | undefined

  constructor(private readonly folder: string) {}

  get isRunning(): boolean {
    return this.#process?.exitCode === null && this.#process.signalCode === null
  }

  async start(): Promise<void> {
    mkdirSync(this.folder, { recursive: true })
    const socket = join(this.folder, 'redis.sock')
    const child = spawn(
      'redis-server',
      [
        '--port',
        '0',
        '--unixsocket',
        socket,
        '--dir',
        this.folder,
        '--save',
        '',
        '--appendonly',
        'yes',
        '--maxmemory-policy',
        'noeviction',
      ],
      { stdio: 'ignore' },
    )
    this.#process = child
    const client = new Redis({ path: socket, retryStrategy: () => 20, maxRetriesPerRequest: null })
    client.on('error', () => undefined)
    const ended = new Promise<never>((_, reject) =>
      child.once('exit', () => reject(new Error('redis-server did not start'))),
    )
    await Promise.race([client.ping(), ended]).finally(() => client.disconnect())
    ended.catch(() => undefined)
  }

  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    const child = this.#process
    if (!child || !this.isRunning) return
    const gone = new Promise((resolve) => child.once('exit', resolve))
    child.kill(signal)
    await gone
  }
}
