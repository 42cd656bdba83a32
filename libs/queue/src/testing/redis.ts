import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { producerConnection } from '../connection.js'

/**
 * A redis-server of the test's own, on a socket in a temporary folder. `kill` and `start` leave its
 * data alone.
 */
export class TestRedis {
  #process: ChildProcess | undefined
  private constructor(readonly folder: string) {}

  static async start(): Promise<TestRedis> {
    const redis = new TestRedis(await mkdtemp(join(tmpdir(), 'strata-redis-')))
    await redis.start()
    return redis
  }

  get url(): string {
    return `unix://${join(this.folder, 'redis.sock')}`
  }

  async start(): Promise<void> {
    const args = [
      '--port',
      '0',
      '--unixsocket',
      join(this.folder, 'redis.sock'),
      '--dir',
      this.folder,
      '--save',
      '',
      '--appendonly',
      'yes',
      '--maxmemory-policy',
      'noeviction',
    ]
    this.#process = spawn('redis-server', args, { stdio: 'ignore' })
    const client = producerConnection(this.url)
    for (;;) {
      if (this.#process.exitCode !== null) throw new Error('redis-server did not start')
      const answer = await client.ping().catch(() => 'no')
      if (answer === 'PONG') break
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    client.disconnect()
  }

  async kill(): Promise<void> {
    const running = this.#process
    if (!running || running.exitCode !== null) return
    const ended = new Promise((resolve) => running.once('exit', resolve))
    running.kill('SIGKILL')
    await ended
  }

  async remove(): Promise<void> {
    await this.kill()
    await rm(this.folder, { recursive: true, force: true })
  }
}
