import { runService } from '@strata/platform'
import { ingest } from './ingest.js'

await runService(ingest)
