export { extractorConfigSchema, type ExtractorConfig } from './config.js'
export { ExtractorModule } from './extractor.module.js'
