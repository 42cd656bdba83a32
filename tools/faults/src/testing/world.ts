import { mkdtemp, rm } from 'node:fs/promises'
import { Readable } from 'node:stream'
import type { ContainerView, JobView } from '@strata/api'
import { StrataUnderTest, until, type Answer, type Service } from '@strata/e2e/testing'
import type { Failpoint } from '@strata/base'
import { TestRedis } from '@strata/queue/testing'
import { Checker } from './checker.js'
import { Orders } from './orders.js'
import { openTestStore, type TestStore } from './stores.js'
import { Witness } from './witness.js'

export const SERVICES: readonly Service[] = ['gateway', 'ingest', 'extractor', 'storage', 'runtime']
/** The bar: whatever happened, all is right again by itself after so long. */
const RIGHT_WITHIN_SECONDS = 20
/**
 * For how long a node may be away. By default (30 s) its starts and launches end then, and a busy
 * machine takes as long to start a killed node again: that it died is not what these tests ask.
 */
const NODE_LOST_MS = '600000'
/** A look reads the whole store. */
const LOOK_EVERY_MS = 250

/**
 * Every service in a process of its own, over a Redis and a store of the test's own; the test is
 * the supervisor that starts again what died.
 */
export class World {
  /** How long it took until all was right, by what had happened, in seconds. */
  readonly healed = new Map<string, number>()

  private constructor(
    private readonly folder: string,
    readonly store: TestStore,
    readonly redis: TestRedis,
    readonly orders: Orders,
    readonly witness: Witness,
    readonly strata: StrataUnderTest,
    readonly checker: Checker,
  ) {}

  static async start(kind: TestStore['name'], environment: Record<string, string> = {}): Promise<World> {
    const folder = await mkdtemp('/var/tmp/strata-faults-')
    const [store, redis, witness, orders] = [
      await openTestStore(kind, folder, environment),
      await TestRedis.start(),
      await Witness.start(),
      new Orders(),
    ]
    const strata = await StrataUnderTest.start({
      topology: 'processes',
      groups: SERVICES.map((service) => [service]),
      environment: {
        STRATA_NODE_LOST_MS: NODE_LOST_MS,
        ...orders.environment,
        ...store.environment,
        STRATA_REDIS: redis.url,
        ...environment,
      },
    })
    return new World(folder, store, redis, orders, witness, strata, new Checker(strata, store))
  }

  async dispose(): Promise<void> {
    try {
      await this.strata.dispose()
    } finally {
      this.witness.close()
      this.orders.remove()
      await this.redis.remove()
      await this.store.remove()
      await rm(this.folder, { recursive: true, force: true })
    }
  }

  /** The service dies at once and is started again. */
  async kill(service: Service): Promise<void> {
    await this.strata.stop('SIGKILL', service)
    await this.strata.startGroup([service])
  }

  /**
   * Does `act` with the order that the service dies at the step, waits until it did, and starts it
   * again. What `act` answers is not waited for: its service died.
   */
  async killAt(service: Service, step: Failpoint, act: () => Promise<unknown>): Promise<void> {
    this.orders.give(step, 'SIGKILL')
    act().catch(() => undefined)
    await this.orders.taken(step)
    await this.kill(service)
    await this.strata.ready()
  }

  /**
   * Waits until nothing is lost, doubled or left over, and what the test itself expects is so;
   * notes how long that took.
   */
  async right(what: string, expected: () => Promise<readonly string[]> = () => Promise.resolve([])): Promise<void> {
    const since = performance.now()
    let problems: readonly string[] = ['not looked yet']
    const look = async (): Promise<boolean> => {
      try {
        problems = await this.checker.problems()
        if (problems.length === 0) problems = await expected()
      } catch (error) {
        problems = [`cannot look: ${String(error)}`]
      }
      return problems.length === 0
    }
    await until(look, what, RIGHT_WITHIN_SECONDS, LOOK_EVERY_MS).catch((error: unknown) => {
      throw new Error(`${what}: not right after ${RIGHT_WITHIN_SECONDS} s:\n  ${problems.join('\n  ')}`, {
        cause: error,
      })
    })
    this.healed.set(what, (performance.now() - since) / 1000)
  }

  load(archive: Buffer, job: string, query = ''): Promise<Answer> {
    return this.strata.request('POST', `/v1/images?job=${job}${query}`, Readable.from([archive]))
  }

  async job(id: string): Promise<JobView> {
    return (await this.strata.request('GET', `/v1/jobs/${id}`)).json<JobView>()
  }

  /** Says how long things took to be right again: for a test's output, and docs/failures.md. */
  report(): void {
    for (const [what, seconds] of this.healed)
      console.log(`${this.store.name}: ${what}: right after ${seconds.toFixed(1)} s`)
  }

  async names(): Promise<string[]> {
    return (await this.strata.images()).flatMap(({ names }) => names)
  }

  /** Of the images, those that no container could be launched from. */
  async notLaunchable(images: readonly string[]): Promise<string[]> {
    const failed: string[] = []
    for (const image of images) {
      const made = await this.strata.request('POST', '/v1/containers', { image, command: ['true'] })
      if (made.status === 201) {
        const { id } = made.json<ContainerView>()
        await this.strata.request('POST', `/v1/containers/${id}/wait`)
        await this.strata.request('DELETE', `/v1/containers/${id}`)
      } else failed.push(`${image}: ${made.status} ${made.bytes.toString()}`)
    }
    return failed
  }

  async container(id: string): Promise<ContainerView | undefined> {
    const answer = await this.strata.request('GET', `/v1/containers/${id}`)
    return answer.status === 200 ? answer.json<ContainerView>() : undefined
  }
}
