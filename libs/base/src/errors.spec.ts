import { describe, expect, it } from 'vitest'
import {
  asCode,
  asStrataError,
  ERROR_CODES,
  isErrorCode,
  MAX_TOLD,
  StrataError,
  toldToAll,
  toldToCaller,
} from './errors.js'

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

  it.each([
    ['EDQUOT', 'storage_full'],
    ['EMFILE', 'overloaded'],
    ['ENFILE', 'overloaded'],
    ['ENOMEM', 'overloaded'],
    ['EBUSY', 'internal'],
    ['constructor', 'internal'],
  ])('name a machine that is at its end: %s', (code, named) =>
    expect(asStrataError(Object.assign(new Error('open'), { code }))).toMatchObject({ code: named }),
  )

  it('get the code of what the thing is to a caller', () => {
    const error = new StrataError('exists', 'the key k is taken', { confidential: true })
    expect(asCode(error, { exists: 'container_exists' })).toMatchObject({
      code: 'container_exists',
      message: 'the key k is taken',
      confidential: true,
      cause: error,
    })
    expect(asCode(error, { in_use: 'image_in_use' })).toBe(error)
    expect(asCode('no error', { exists: 'container_exists' })).toBe('no error')
  })

  it.each([
    ['short', 'a sentence', 'a sentence'],
    ['as long as it may be', 'x'.repeat(MAX_TOLD), 'x'.repeat(MAX_TOLD)],
    ['longer', 'x'.repeat(4_000_000), expect.stringMatching(/^x+… \(4000000 characters in all\)$/) as string],
    ['longer, of characters of two units', '😀'.repeat(MAX_TOLD), expect.stringMatching(/^(?:😀)+… \(8000/u) as string],
  ])('are told in a bounded sentence: %s', (_, message, told) => {
    for (const tell of [toldToCaller, toldToAll]) {
      const once = tell(new StrataError('bad_request', message))
      expect(once).toEqual({ code: 'bad_request', message: told })
      expect(once.message.length).toBeLessThanOrEqual(MAX_TOLD)
      expect(toldToCaller(once)).toEqual(once)
    }
  })
})
