import { SingleFlight, StrataError } from '@strata/base'
import type { Redis } from 'ioredis'
import { producerConnection, workerConnection, type RedisUrl } from './connection.js'
import type { QueueKind } from './jobs/contracts.js'
import { Journal } from './journal.js'
import { NodeDirectory } from './nodes/nodes.js'
import { Producer } from './jobs/producer.js'
import { migrateRedis } from './redis-version.js'
import { Signals } from './signals.js'
import { queueDepths, type QueueDepth } from './jobs/queue-depth.js'
import { JobWorker, type JobObserver, type WorkerOptions } from './jobs/worker.js'

/**
 * All that a process needs of Redis, on one connection and one subscription; every worker adds a
 * connection of its own to wait on.
 *
 * `forRequests`: commands fail at once while Redis is away, since a person waits. `forWork`: they
 * wait, and work goes on when it is back.
 *
 * Each time it is connected it looks which version the data have (redis-version.ts). Data of a
 * newer release end the process: if Redis answers when the client is made, by its `data_newer`, and
 * later by an uncaught one.
 */
export class QueueClient {
  readonly signals: Signals
  readonly journal: Journal
  readonly producer: Producer
  readonly nodes: NodeDirectory
  readonly #workers: { readonly queue: string; close(): Promise<void> }[] = []

  private constructor(
    private readonly redis: Redis,
    url: RedisUrl,
    private readonly observer: JobObserver | undefined,
  ) {
    this.signals = new Signals(url)
    this.journal = new Journal(redis, this.signals)
    this.producer = new Producer(redis)
    this.nodes = new NodeDirectory(redis)
  }

  /**
   * Resolves after the first answer from Redis, or after the first failed connection: the first
   * request must not be the one that finds the connection half-made.
   */
  static forRequests(url: RedisUrl): Promise<QueueClient> {
    return QueueClient.#open(producerConnection(url), url)
  }

  /** Resolves as `forRequests` does. `observer` gets the runs of jobs, for metrics. */
  static forWork(url: RedisUrl, observer?: JobObserver): Promise<QueueClient> {
    return QueueClient.#open(workerConnection(url), url, observer)
  }

  static async #open(redis: Redis, url: RedisUrl, observer?: JobObserver): Promise<QueueClient> {
    await new Promise<void>((resolve) => redis.once('ready', resolve).once('close', resolve))
    const client = new QueueClient(redis, url, observer)
    try {
      if (redis.status === 'ready') await client.#checkVersion()
    } catch (error) {
      await client.close()
      throw error
    }
    redis.on('ready', () => {
      // Nobody waits for this: what is thrown here ends the process.
      client.#checkVersion().catch((error: unknown) => setImmediate(() => throwIt(error)))
    })
    return client
  }

  /** @throws StrataError `data_newer` */
  async #checkVersion(): Promise<void> {
    try {
      await migrateRedis(this.redis, (message) => process.emitWarning(message))
    } catch (error) {
      // Without Redis nothing can be done wrong either; the next connection asks again.
      if (error instanceof StrataError) throw error
    }
  }

  /** Whether Redis answers now; asked again only when it has told. While it is away, at once. */
  async answers(): Promise<boolean> {
    if (this.redis.status !== 'ready') return false
    return (await this.#pings.run(() => this.redis.ping())) === 'PONG'
  }
  readonly #pings = new SingleFlight<string>()

  /**
   * How much is in the queues that are worked here, and in `others`: one question each. Rejects at
   * once while Redis is known to be away. Callers at the same time share the answer, so a Redis
   * that hangs has one question to answer.
   */
  async depths(others: readonly string[] = []): Promise<QueueDepth[]> {
    return this.#depths.run(async () => {
      if (this.redis.status !== 'ready') throw new StrataError('queue_unavailable', 'Redis does not answer')
      return queueDepths(this.redis, new Set([...others, ...this.#workers.map(({ queue }) => queue)]))
    })
  }
  readonly #depths = new SingleFlight<QueueDepth[]>()

  /** Works a queue until `close`. */
  serve<K extends QueueKind>(options: WorkerOptions<K>): JobWorker<K> {
    const worker = new JobWorker(this.redis, this.journal, this.signals, options, this.observer)
    this.#workers.push(worker)
    return worker
  }

  /**
   * Ends the work on a queue before `close` does: it takes no more jobs, and those under way are
   * awaited.
   */
  async retire(worker: { readonly queue: string; close(): Promise<void> }): Promise<void> {
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

function throwIt(error: unknown): never {
  throw error
}
