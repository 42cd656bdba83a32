import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { Refusals } from './refusals.js'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

it('the first refusal is told at once, those behind it by their number', () => {
  const lines: string[] = []
  const refusals = new Refusals((line) => lines.push(line))
  for (let count = 0; count < 1_000; count++) refusals.add(`refused ${count}`)
  expect(lines).toEqual(['refused 0'])
  vi.advanceTimersByTime(60_000)
  expect(lines).toEqual(['refused 0', 'refused in the last minute: 999 more'])
  refusals.add('refused once more')
  vi.advanceTimersByTime(60_000)
  expect(lines.slice(2)).toEqual(['refused once more'])
})
