import { runService } from '@strata/platform'
import { storage } from './storage.js'

await runService(storage)
