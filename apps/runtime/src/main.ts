import { runService } from '@strata/platform'
import { runtime } from './runtime.js'

await runService(runtime)
