import { describe, expect, it } from 'vitest'
import { asStrataError, ERROR_CODES, isErrorCode, StrataError } from './errors.js'

describe('errors', () => {
  it('are of a closed set without doubles', () => {
    expect(new Set(ERROR_CODES).size).toBe(ERROR_CODES.length)
    expect(isErrorCode('digest_mismatch')).toBe(true)
    expect(isErrorCode('constructor')).toBe(false)
  })

  it('keep what they are, and name a full disk', () => {
    const error = new StrataError('not_found', 'x')
    expect(asStrataError(error)).toBe(error)
    expect(asStrataError(Object.assign(new Error('write'), { code: 'ENOSPC' })).code).toBe('storage_full')
    expect(asStrataError('text')).toMatchObject({ code: 'internal', message: 'text' })
  })
})
