import { expect, it } from 'vitest'
import { describeSnapshotter } from './snapshotter-suite.js'

it('takes no departure from a check that does not exist', () => {
  const create = (): Promise<never> => Promise.reject(new Error('not asked for'))
  expect(() => describeSnapshotter('x', create, { skip: [{ reason: 'none', tests: ['flies'] }] })).toThrow(
    /"flies", which is no check/,
  )
})
