import { runService } from '@strata/platform'
import { gateway } from './gateway.js'

await runService(gateway)
