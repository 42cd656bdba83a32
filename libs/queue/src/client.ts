import type { Redis } from 'ioredis'
import { producerConnection, workerConnection, type RedisUrl } from './connection.js'
import type { QueueKind } from './contracts.js'
import { Journal } from './journal.js'
import { NodeDirectory } from './nodes.js'
import { Producer } from './producer.js'
import { Signals } from './signals.js'
import { JobWorker, type WorkerOptions } from './worker.js'

/**
 * All that a process needs of Redis, on one connection and one subscription; every worker adds a
 * connection of its own to wait on.
 *
 * `forRequests`: commands fail at once while Redis is away, since a person waits. `forWork`: they
 * wait, and work goes on when it is back.
 */
export class QueueClient {
  readonly signals: Signals
  readonly journal: Journal
  readonly producer: Producer
  readonly nodes: NodeDirectory
  readonly #workers: { close(): Promise<void> }[] = []

  private constructor(
    private readonly redis: Redis,
    url: RedisUrl,
  ) {
    this.signals = new Signals(url)
    this.journal = new Journal(redis, this.signals)
    this.producer = new Producer(redis)
    this.nodes = new NodeDirectory(redis)
  }

  /**
   * Resolves when Redis has answered, or has been found away: the first request must not be the one
   * that finds the connection half-made.
   */
  static async forRequests(url: RedisUrl): Promise<QueueClient> {
    const redis = producerConnection(url)
    await new Promise<void>((resolve) => redis.once('ready', resolve).once('close', resolve))
    return new QueueClient(redis, url)
  }

  static forWork(url: RedisUrl): QueueClient {
    return new QueueClient(workerConnection(url), url)
  }

  /** Whether Redis answers now; asked again only when it has told. While it is away, at once. */
  async answers(): Promise<boolean> {
    if (this.redis.status !== 'ready') return false
    this.#ping ??= this.redis.ping().finally(() => (this.#ping = undefined))
    return (await this.#ping) === 'PONG'
  }
  #ping: Promise<string> | undefined

  /** Works a queue until `close`. */
  serve<K extends QueueKind>(options: WorkerOptions<K>): JobWorker<K> {
    const worker = new JobWorker(this.redis, this.journal, this.signals, options)
    this.#workers.push(worker)
    return worker
  }

  /**
   * Ends the work on a queue before `close` does: it takes no more jobs, and those under way are
   * awaited.
   */
  async retire(worker: { close(): Promise<void> }): Promise<void> {
    const at = this.#workers.indexOf(worker)
    if (at >= 0) this.#workers.splice(at, 1)
    await worker.close()
  }

  /** Takes no more jobs, awaits those under way, then lets go. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.close()))
    await this.producer.close()
    this.signals.close()
    this.redis.disconnect()
  }
}
