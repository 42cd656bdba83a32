import { startWorker, type Service } from '@strata/platform'
import { ingestConfigSchema } from './config.js'
import { IngestModule, IngestWorker } from './ingest.module.js'

export const ingest: Service<typeof ingestConfigSchema> = {
  name: 'ingest',
  summary: 'Makes images of what was uploaded. Any number of them share the work.',
  config: ingestConfigSchema,
  start: (config, metrics) => startWorker(IngestModule.register(config, metrics), IngestWorker),
}
