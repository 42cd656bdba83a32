import { expect, it } from 'vitest'
import { requestedRange } from './byte-range.js'

it.each([
  [undefined, undefined],
  ['bytes=0-', { start: 0, end: 10 }],
  ['bytes=3-5', { start: 3, end: 6 }],
  ['bytes=3-99', { start: 3, end: 10 }],
  ['bytes=-4', { start: 6, end: 10 }],
  ['bytes=-99', { start: 0, end: 10 }],
  ['bytes=10-', 'unsatisfiable'],
  ['bytes=-0', 'unsatisfiable'],
  ['bytes=5-3', 'unsatisfiable'],
  ['bytes=0-1,4-5', undefined],
  ['bytes=-', undefined],
  ['entries=0-1', undefined],
  ['bytes=1e3-', undefined],
])('%s of ten bytes', (header, range) => {
  expect(requestedRange(header, 10)).toEqual(range)
})
