import { runService } from '@strata/platform'
import { extractor } from './extractor.js'

await runService(extractor)
