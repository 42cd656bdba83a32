import { createService, readConfig } from '@strata/platform'
import { extractorConfigSchema, ExtractorModule } from '@strata/extractor'
import { gatewayConfigSchema, startGateway } from '@strata/gateway'
import { ingestConfigSchema, IngestModule } from '@strata/ingest'
import { runtimeConfigSchema, startRuntime } from '@strata/runtime'
import { storageConfigSchema, StorageModule } from '@strata/storage'
import type { Layout, Service } from './config.js'

export interface Running {
  close(): Promise<void>
}

type Start = (environment: NodeJS.ProcessEnv) => Promise<Running>

const START: Readonly<Record<Service, Start>> = {
  ingest: (environment) => createService(IngestModule.register(readConfig(ingestConfigSchema, environment))),
  extractor: (environment) => createService(ExtractorModule.register(readConfig(extractorConfigSchema, environment))),
  storage: (environment) => createService(StorageModule.register(readConfig(storageConfigSchema, environment))),
  runtime: (environment) => startRuntime(readConfig(runtimeConfigSchema, environment)),
  gateway: (environment) => startGateway(readConfig(gatewayConfigSchema, environment)),
}
/** The door opens last, and closes first: who gets in finds the others at work. */
const ORDER: readonly Service[] = ['extractor', 'runtime', 'storage', 'ingest', 'gateway']

/** All or some of the services in this process. If one does not start, those that did are closed again. */
export async function startServices(services: readonly Service[], { environment }: Layout): Promise<Running> {
  const running: Running[] = []
  const close = async (): Promise<void> => {
    for (const one of running.splice(0).reverse()) await one.close()
  }
  try {
    for (const service of ORDER.filter((name) => services.includes(name))) running.push(await START[service](environment))
  } catch (error) {
    await close()
    throw error
  }
  return { close }
}
