import { checkConfig, readConfig, type RunningService, type Service } from '@strata/platform'
import { extractor } from '@strata/extractor'
import { gateway } from '@strata/gateway'
import { ingest } from '@strata/ingest'
import { runtime } from '@strata/runtime'
import { storage } from '@strata/storage'
import { standaloneConfigSchema, type Layout, type ServiceName } from './config.js'

interface Startable {
  readonly config: Service['config']
  start(environment: NodeJS.ProcessEnv): Promise<RunningService>
}

function startable<S extends Service['config']>(service: Service<S>): Startable {
  return { config: service.config, start: (environment) => service.start(readConfig(service.config, environment)) }
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
 * All or some of the services in this process. If one does not start, those that did are closed
 * again.
 */
export async function startServices(
  services: readonly ServiceName[],
  { environment }: Layout,
): Promise<{ close(): Promise<void> }> {
  const running: RunningService[] = []
  const close = async (): Promise<void> => {
    for (const one of running.splice(0).reverse()) await one.close()
  }
  try {
    for (const service of ORDER.filter((name) => services.includes(name)))
      running.push(await SERVICE[service].start(environment))
  } catch (error) {
    await close()
    throw error
  }
  return { close }
}
