import type { LayerProgress } from '@strata/api'
import { expect, it } from 'vitest'
import { drawnPull, pullLines } from './pull-progress.js'

const layer = (digit: string, state: LayerProgress['state'], bytes = state === 'pulled' ? 1000 : 0): LayerProgress => ({
  digest: `sha256:${digit.repeat(64)}` as LayerProgress['digest'],
  size: 1000,
  bytes,
  state,
})

/** A terminal as far as it is needed here: lines, and what moves between them. */
function terminal(rows = 24, columns = 80) {
  const lines = ['']
  let at = 0
  return {
    rows,
    columns,
    lines,
    write(text: string) {
      // eslint-disable-next-line no-control-regex -- control characters are what this is about
      for (const [part] of text.matchAll(/\x1b\[(?:[0-9]*)[A-Z]|[\r\n]|[^\x1b\r\n]+/g)) {
        if (part === '\r') continue
        if (part === '\n') lines[++at] ??= ''
        else if (part === '\x1b[K') continue
        else if (part === '\x1b[J') lines.length = at + 1
        else if (part.startsWith('\x1b[')) at -= Number(part.slice(2, -1))
        else lines[at] = part
      }
      expect(at).toBeGreaterThanOrEqual(0)
      expect(lines.length).toBeLessThanOrEqual(rows)
      for (const line of lines) expect(line.length).toBeLessThan(columns)
    },
  }
}

it('draws a line for each layer, and one for all of them', () => {
  const out = terminal()
  let time = 0
  const progress = drawnPull(out, () => (time += 1000))
  const known = layer('c', 'known')
  progress.show({ step: 'resolving' })
  expect(out.lines).toEqual(['resolving'])
  progress.show({
    step: 'pulling',
    bytes: 0,
    total: 2000,
    layers: [layer('a', 'waiting'), layer('b', 'waiting'), known],
  })
  progress.show({
    step: 'pulling',
    bytes: 1500,
    total: 2000,
    layers: [layer('a', 'pulling', 500), layer('b', 'pulled'), known],
  })
  expect(out.lines).toEqual([
    'aaaaaaaaaaaa: Downloading [===============>              ]  500B/1kB',
    'bbbbbbbbbbbb: Download complete',
    'cccccccccccc: Already exists',
    'pulling [=======================>      ]  1.5kB/2kB  75%  500B/s',
  ])
  progress.close()
  expect(out.lines.slice(1)).toEqual(['bbbbbbbbbbbb: Download complete', 'cccccccccccc: Already exists', ''])
})

it('fits into a small terminal: what is done is left out first', () => {
  const out = terminal(6, 40)
  let time = 0
  const progress = drawnPull(out, () => (time += 1000))
  const layers = ['a', 'b', 'c', 'd', 'e', 'f'].map((digit, at) => layer(digit, at < 4 ? 'pulled' : 'pulling', 700))
  progress.show({ step: 'x'.repeat(100), layers })
  expect(out.lines.slice(0, 4)).toEqual(
    [
      'aaaaaaaaaaaa: Download complete',
      'eeeeeeeeeeee: Downloading [=============',
      'ffffffffffff: Downloading [=============',
      '… and 3 layers more',
    ].map((line) => line.slice(0, 39)),
  )
  progress.close()
})

it('takes a terminal that was told no size for one of 80 columns and 24 lines', () => {
  let text = ''
  const progress = drawnPull({ rows: 0, columns: 0, write: (piece: string) => (text += piece) }, () => 0)
  progress.show({ layers: ['a', 'b'].map((digit) => layer(digit, 'known')) })
  expect(text).toContain('aaaaaaaaaaaa: Already exists')
  expect(text).toContain('bbbbbbbbbbbb: Already exists')
})

it('draws at most ten times a second, and the last state at the end', () => {
  const out = terminal()
  let time = 0
  const progress = drawnPull(out, () => (time += 1))
  for (let bytes = 0; bytes <= 50; bytes++) progress.show({ layers: [layer('a', 'pulling', bytes)] })
  expect(out.lines[0]).toContain(' 0B/1kB')
  progress.show({ layers: [layer('a', 'pulled')] })
  progress.close()
  expect(out.lines).toEqual(['aaaaaaaaaaaa: Download complete', ''])
})

it('leaves a terminal alone that it has not drawn on', () => {
  const out = terminal()
  drawnPull(out).close()
  expect(out.lines).toEqual([''])
})

it('without a terminal says each change once, in a line', () => {
  let text = ''
  let time = 0
  const progress = pullLines({ write: (piece: string) => (text += piece) }, () => (time += 500))
  progress.show({ step: 'resolving' })
  for (let bytes = 0; bytes <= 1000; bytes += 100)
    progress.show({ step: 'pulling', bytes, total: 1000, layers: [layer('a', 'pulling', bytes), layer('b', 'known')] })
  progress.show({ step: 'extracting', bytes: 1000, total: 1000, layers: [layer('a', 'pulled'), layer('b', 'known')] })
  progress.close()
  const lines = text.trimEnd().split('\n')
  expect(lines.filter((line) => !line.startsWith('pulling '))).toEqual([
    'resolving',
    'aaaaaaaaaaaa: Downloading',
    'bbbbbbbbbbbb: Already exists',
    'pulling',
    'aaaaaaaaaaaa: Download complete',
    'extracting',
  ])
  expect(lines.some((line) => line.startsWith('pulling 1kB/1kB  100%'))).toBe(true)
  expect(text).not.toContain('\r')
  expect(text).not.toContain('\x1b')
})

it.each([drawnPull, pullLines])('obeys nothing that a service says: %o', (make) => {
  let text = ''
  const progress = make({ write: (piece: string) => (text += piece) }, () => 0)
  const evil = 'a\x1b]0;owned\x07\u202e\n'
  progress.show({ step: evil, layers: [{ ...layer('a', 'known'), digest: evil as LayerProgress['digest'] }] })
  progress.close()
  for (const obeyed of ['\x1b]', '\x07', '\u202e']) expect(text).not.toContain(obeyed)
})
