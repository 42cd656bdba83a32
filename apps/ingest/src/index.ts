export { ingestConfigSchema, type IngestConfig } from './config.js'
export { IngestModule } from './ingest.module.js'
