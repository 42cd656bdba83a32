export { ingest } from './ingest.js'
