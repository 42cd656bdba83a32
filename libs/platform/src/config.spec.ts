import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { readConfig } from './config.js'

const schema = z.object({ A: z.string(), B: z.coerce.number().int().default(3), C: z.enum(['x', 'y']).optional() })

describe('the configuration', () => {
  it('takes an empty variable as none', () => {
    expect(readConfig(schema, { A: 'a', B: '', C: '' })).toEqual({ A: 'a', B: 3 })
  })

  it('lists every error at once, each with its variable', () => {
    expect(() => readConfig(schema, { B: 'many', C: 'z' })).toThrow(/A: .*\n {2}B: .*\n {2}C: /)
  })
})
