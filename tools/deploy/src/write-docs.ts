import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { configurationDocument } from './configuration.js'

writeFileSync(join(import.meta.dirname, '../../../docs/configuration.md'), configurationDocument())
