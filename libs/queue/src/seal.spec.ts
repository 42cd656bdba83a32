import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { decodeFailure, encodeFailure } from './jobs/failure.js'
import { Sealer } from './seal.js'
import { asConfidential, ERROR_CODES, ERROR_TITLES, StrataError } from '@strata/base'

const schema = z.object({ env: z.array(z.string()) })

describe('sealed values', () => {
  const sealer = new Sealer(Buffer.from('secret'))
  const sealed = sealer.seal({ env: ['A=canary'] }, 'container-1')

  it('open with the key and the context they were made for', () => {
    expect(sealed).not.toContain('canary')
    expect(sealer.open(schema, sealed, 'container-1')).toEqual({ env: ['A=canary'] })
    expect(sealer.seal({ env: ['A=canary'] }, 'container-1')).not.toBe(sealed)
  })

  it.each([
    ['another context', sealer, sealed, 'container-2'],
    ['another key', new Sealer(Buffer.from('other')), sealed, 'container-1'],
    ['changed bytes', sealer, `${sealed.slice(0, -6)}AAAA==`, 'container-1'],
    ['nothing', sealer, '', 'container-1'],
  ])('do not open with %s', (_, by, text, context) => {
    expect(() => by.open(schema, text, context)).toThrow(/does not open/)
  })
})

describe('failures in Redis', () => {
  it('keep code and sentence', () => {
    expect(decodeFailure(encodeFailure(new StrataError('layer_missing', 'it is gone')))).toMatchObject({
      code: 'layer_missing',
      message: 'it is gone',
    })
  })
  it.each(ERROR_CODES)('%s: only the code is left of what is for the caller alone', (code) => {
    const failure = asConfidential(new StrataError(code, 'the command --password hunter2 failed'))
    expect(failure.message).toContain('hunter2')
    expect(JSON.parse(encodeFailure(failure))).toEqual({ code, message: ERROR_TITLES[code] })
  })
  it('have nothing of the inside', () => {
    expect(encodeFailure(new Error('connect ECONNREFUSED /secret'))).toBe(
      JSON.stringify({ code: 'internal', message: ERROR_TITLES.internal }),
    )
  })
  it.each([
    ['job stalled more than allowable limit', 'poisoned'],
    ['{"code":"toString","message":"x"}', 'internal'],
    ['null', 'internal'],
  ])('%s is %s', (reason, code) => {
    expect(decodeFailure(reason).code).toBe(code)
  })
})
