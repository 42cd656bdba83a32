import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { DRIVER_NAMES, VARIANTS } from './drivers.js'

const DOCUMENT = join(import.meta.dirname, '../../../../docs/storage.md')

describe('each driver', () => {
  it('has a row in docs/storage.md for each of its variants, in the order in which they are probed', () => {
    const [, section = ''] = readFileSync(DOCUMENT, 'utf8').split('\n## Drivers\n')
    const table = section.slice(section.indexOf('| --- |')).split('\n\n')[0]!
    const titles = table.split('\n').map((line) => line.split('|')[1]!.trim())
    expect(titles.slice(1)).toEqual(VARIANTS.map(({ title }) => title))
  })

  it.each(DRIVER_NAMES)('%s has a spec of its own beside its code', (name) => {
    expect(existsSync(join(import.meta.dirname, name, `${name}.root.spec.ts`))).toBe(true)
  })
})
