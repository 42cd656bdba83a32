import { startWorker, type Service } from '@strata/platform'
import { extractorConfigSchema } from './config.js'
import { ExtractorModule, ExtractorWorker } from './extractor.module.js'

export const extractor: Service<typeof extractorConfigSchema> = {
  name: 'extractor',
  summary: 'Proves layers and makes them usable on its node. One for each node.',
  config: extractorConfigSchema,
  start: (config, metrics) => startWorker(ExtractorModule.register(config, metrics), ExtractorWorker),
}
