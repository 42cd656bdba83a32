import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { SERIES } from '@strata/platform'
import { expect, it } from 'vitest'
import { families, metricsDocument } from './metrics.js'

it('docs/metrics.md is what the services give (else: npm run docs -w @strata/deploy)', async () => {
  const text = readFileSync(join(import.meta.dirname, '../../../docs/metrics.md'), 'utf8')
  expect(text).toBe(await metricsDocument())
  const given = await families()
  expect(given.length).toBeGreaterThan(Object.keys(SERIES).length + 20)
  for (const { name, type } of given) expect(text.split(`\n| \`${name}\` | ${type} | `)).toHaveLength(2)
})
