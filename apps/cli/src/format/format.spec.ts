import { describe, expect, it } from 'vitest'
import { shortId, tableOf } from './table.js'
import { ago, humanDuration, humanSize } from './units.js'

describe('humanSize', () => {
  it.each([
    [0, '0B'],
    [999, '999B'],
    [1000, '1kB'],
    [1_234_567, '1.23MB'],
    [882_000_000, '882MB'],
    [999_600, '1000kB'],
    [1e9, '1GB'],
    [12_340_000_000_000, '12.3TB'],
  ])('%d is %s', (bytes, text) => {
    expect(humanSize(bytes)).toBe(text)
  })
})

describe('humanDuration', () => {
  const minute = 60
  const hour = 60 * minute
  const day = 24 * hour
  it.each([
    [0.5, 'Less than a second'],
    [1, '1 second'],
    [59, '59 seconds'],
    [60, 'About a minute'],
    [119, 'About a minute'],
    [120, '2 minutes'],
    [hour, 'About an hour'],
    [2 * hour, '2 hours'],
    [47 * hour, '47 hours'],
    [2 * day, '2 days'],
    [13 * day, '13 days'],
    [15 * day, '2 weeks'],
    [70 * day, '2 months'],
    [800 * day, '2 years'],
  ])('%d s is %s', (seconds, text) => {
    expect(humanDuration(seconds * 1000)).toBe(text)
  })
  it('says N/A where an image has no time', () => {
    expect([ago(undefined, 0), ago('0001-01-01T00:00:00Z', 0), ago('nonsense', 0)]).toEqual(['N/A', 'N/A', 'N/A'])
    expect(ago('2026-01-01T00:00:00Z', Date.parse('2026-01-01T00:03:00Z'))).toBe('3 minutes ago')
  })
})

describe('table', () => {
  it('pads to the widest cell and leaves no blanks at the end', () => {
    const linesOf = tableOf(['A', 'LONG'])
    expect(
      linesOf([
        ['abcdef', 'x'],
        ['b', ''],
      ]),
    ).toEqual(['A        LONG', 'abcdef   x', 'b'])
    // The rows that follow have no header, and columns that are never narrower.
    expect(linesOf([])).toEqual([])
    expect(linesOf([['b', 'y']])).toEqual(['b        y'])
    expect(linesOf([['abcdefgh', 'y']])).toEqual(['abcdefgh   y'])
  })
  it('shortens ids', () => {
    expect(shortId(`sha256:${'ab'.repeat(32)}`)).toBe('abababababab')
  })
})
