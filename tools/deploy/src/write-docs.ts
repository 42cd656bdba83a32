import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { configurationDocument } from './configuration.js'
import { metricsDocument } from './metrics.js'

const DOCS = join(import.meta.dirname, '../../../docs')
writeFileSync(join(DOCS, 'configuration.md'), configurationDocument())
writeFileSync(join(DOCS, 'metrics.md'), await metricsDocument())
