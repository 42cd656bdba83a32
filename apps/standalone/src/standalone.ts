import {
  checkConfig,
  Metrics,
  readConfig,
  reportReadiness,
  type NotReady,
  type RunningService,
  type Service,
  type ServiceMetrics,
} from '@strata/platform'
import { extractor } from '@strata/extractor'
import { gateway } from '@strata/gateway'
import { ingest } from '@strata/ingest'
import { runtime } from '@strata/runtime'
import { storage } from '@strata/storage'
import { standaloneConfigSchema, type Layout, type ServiceName } from './config.js'

interface Startable {
  readonly config: Service['config']
  start(environment: NodeJS.ProcessEnv, metrics: ServiceMetrics): Promise<RunningService>
}

function startable<S extends Service['config']>(service: Service<S>): Startable {
  return {
    config: service.config,
    start: (environment, metrics) => service.start(readConfig(service.config, environment), metrics),
  }
}
const SERVICE: Readonly<Record<ServiceName, Startable>> = {
  ingest: startable(ingest),
  extractor: startable(extractor),
  storage: startable(storage),
  runtime: startable(runtime),
  gateway: startable(gateway),
}
/** The gateway starts last and ends first: its clients find the others at work. */
const ORDER: readonly ServiceName[] = ['extractor', 'runtime', 'storage', 'ingest', 'gateway']

/** Throws all that is wrong with the environment of these services, before any of them starts. */
export function checkServices(services: readonly ServiceName[], { environment }: Layout): void {
  checkConfig([standaloneConfigSchema, ...services.map((name) => SERVICE[name].config)], environment)
}

/**
 * All or some of the services in this process, which share its metrics. Some may have been started
 * where others were not.
 */
export class Services {
  readonly #running: RunningService[] = []
  #standing: 'starting' | 'serving' | 'draining' = 'starting'

  constructor(
    private readonly names: readonly ServiceName[],
    private readonly metrics: Metrics,
  ) {}

  /** If one does not start, those that did are closed again. */
  async start({ environment }: Layout): Promise<void> {
    try {
      for (const name of ORDER.filter((one) => this.names.includes(one))) {
        const metrics = this.metrics.of(name)
        const service = await SERVICE[name].start(environment, metrics)
        this.#running.push(service)
        reportReadiness(metrics, () => service.notReady())
      }
      this.#standing = 'serving'
    } catch (error) {
      await this.close()
      throw error
    }
  }

  /** Why one of them or all do not serve. */
  async notReady(): Promise<readonly NotReady[]> {
    if (this.#standing !== 'serving') return [this.#standing]
    const reasons = await Promise.all(this.#running.map((service) => service.notReady()))
    return [...new Set(reasons.flat())]
  }

  async close(): Promise<void> {
    this.#standing = 'draining'
    for (const one of this.#running.splice(0).reverse()) await one.close()
  }
}
