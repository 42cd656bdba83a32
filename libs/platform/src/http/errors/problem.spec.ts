import { ERROR_CODES, StrataError } from '@strata/base'
import { describe, expect, it } from 'vitest'
import { PROBLEMS, toProblem } from './problem.js'

describe('problems', () => {
  it('have one row for each code, and no other', () => {
    expect(Object.keys(PROBLEMS).sort()).toEqual([...ERROR_CODES].sort())
    for (const { status } of Object.values(PROBLEMS)) expect(status).toBeGreaterThanOrEqual(400)
  })

  it('tell nothing of the inside', () => {
    expect(toProblem(new Error('password is hunter2')).body).toMatchObject({
      status: 500,
      code: 'internal',
      detail: expect.not.stringContaining('hunter2') as string,
    })
    expect(toProblem(new StrataError('image_not_found', 'no such image: x')).body).toMatchObject({
      status: 404,
      detail: 'no such image: x',
    })
  })
})
