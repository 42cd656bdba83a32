import { ERROR_TITLES, StrataError } from '@strata/base'
import { expect, it } from 'vitest'
import { LaunchFailures } from './launch-failures.js'

const failure = (text: string) => new StrataError('launch_failed', text, { confidential: true })

it('failures of launches are kept in full, for ten minutes, a thousand at most', () => {
  let now = 0
  const failures = new LaunchFailures(() => now)
  failures.note('a', failure('of a'))
  failures.note('inside', new StrataError('internal', 'x is not a function'))
  expect(failures.of('a')).toEqual({ code: 'launch_failed', message: 'of a' })
  expect(failures.of('inside')).toEqual({ code: 'internal', message: ERROR_TITLES.internal })
  expect(failures.of('b')).toBeUndefined()

  now = 9 * 60_000
  failures.note('b', failure('of b'))
  expect(failures.of('a')).toBeDefined()
  now = 11 * 60_000
  expect([failures.of('a'), failures.of('b')]).toEqual([undefined, { code: 'launch_failed', message: 'of b' }])

  for (let n = 0; n < 1_000; n++) failures.note(`many-${n}`, failure(String(n)))
  expect([failures.of('b'), failures.of('many-0')?.message, failures.of('many-999')?.message]).toEqual([
    undefined,
    '0',
    '999',
  ])
})
