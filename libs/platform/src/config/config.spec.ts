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

describe('a variable that nobody knows', () => {
  const own = z.object({ STRATA_OWN: z.string().optional() })
  it.each([
    ['STRATA_PREPAER', 'did you mean STRATA_PREPARE?'],
    ['STRATA_STOR', 'did you mean STRATA_STORE?'],
    ['STRATA_ENTIRELY_ELSE', 'there is no such variable'],
  ])('%s is refused', (name, words) => {
    expect(() => readConfig(own, { [name]: 'x' })).toThrow(words)
  })

  it.each([
    'STRATA_OWN',
    'STRATA_REDIS',
    'STRATA_TEST_ANYTHING',
    'STRATA_GATEWAY_SERVICE_HOST',
    'STRATA_GATEWAY_SERVICE_PORT',
    'STRATA_GATEWAY_PORT_80_TCP_PROTO',
    'PATH',
  ])('%s is let pass', (name) => {
    expect(() => readConfig(own, { [name]: 'x' })).not.toThrow()
  })
})
