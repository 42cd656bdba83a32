import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { VARIABLES } from '@strata/platform'
import { standaloneConfigSchema } from '@strata/standalone'
import { describe, expect, it } from 'vitest'
import { configurationDocument } from './configuration.js'
import { CONFIGS, fieldsOf } from './services.js'

const DOCUMENT = join(import.meta.dirname, '../../../docs/configuration.md')

describe('docs/configuration.md', () => {
  it('is what the schemas say (else: npm run docs -w @strata/deploy)', () => {
    expect(readFileSync(DOCUMENT, 'utf8')).toBe(configurationDocument())
  })

  it('has every variable that a service or the command line reads, and describes each', () => {
    const text = readFileSync(DOCUMENT, 'utf8')
    for (const name of VARIABLES) expect(text).toMatch(new RegExp(`^\\| \`${name}\` \\|[^|]*\\| [^|]+ \\|$`, 'm'))
    for (const config of [...Object.values(CONFIGS), standaloneConfigSchema])
      for (const [name, field] of fieldsOf(config)) expect(field.description, name).toMatch(/^\S.{10,}/)
  })

  it('has the default of each where it has one', () => {
    const text = readFileSync(DOCUMENT, 'utf8')
    expect(text).toContain('| `STRATA_S3_REGION` | `us-east-1` |')
    expect(text).toMatch(/\| `STRATA_STORE` \| \*\*needed\*\* \|/)
    expect(text).toMatch(/\| `STRATA_SNAPSHOTTER` \| {2}\|/)
  })
})
