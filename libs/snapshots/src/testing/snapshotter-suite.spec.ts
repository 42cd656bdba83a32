import { expect, it } from 'vitest'
import { describeDriver } from './snapshotter-suite.js'

it('takes no departure from a check that does not exist', () => {
  expect(() => describeDriver('overlay', [{ reason: 'none', tests: ['flies'] }])).toThrow(/"flies", which is no check/)
})
