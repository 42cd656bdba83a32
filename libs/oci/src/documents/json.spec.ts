import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { parseJson } from './image.js'
import { readJson } from './json.js'

const LIMITS = { depth: 3, parts: 5, members: 4 }
const read = (text: string): unknown => readJson(Buffer.from(text), 'it', LIMITS)

describe('JSON of others', () => {
  it.each([
    '[[[]]]',
    '{"a":{"b":{}}}',
    '[[],[],[],[]]',
    '"[[[[[["',
    String.raw`["\"[[[[", "\\", "{{{{{{"]`,
    '{"[[[[":1}',
    '{"a":1,"b":2,"c":[{"::::":3}]}',
    ' 1 ',
  ])('%s is read', (text) => {
    expect(read(text)).toEqual(JSON.parse(text))
  })

  it.each([
    ['[[[[]]]]', 'it is nested deeper than 3'],
    ['{"a":[{"b":[]}]}', 'it is nested deeper than 3'],
    ['[[],{},[],{},[]]', 'it has more than 5'],
    ['[{"a":1,"b":2},{"a":1,"b":2},{"a":1}]', 'it has more than 4 members'],
    [String.raw`["\\",[[[`, 'it is nested deeper than 3'],
  ])('%s is over a limit', (text, says) => {
    expect(() => read(text)).toThrow(
      expect.objectContaining({ code: 'limit_exceeded', message: expect.stringContaining(says) as string }) as Error,
    )
  })

  it.each(['[', ']', '{"a"}', '', '[1'])('%j is none', (text) => {
    expect(() => read(text)).toThrow(SyntaxError)
  })

  it('a document of an image is bounded too', () => {
    const parse = (text: string): unknown => parseJson(z.unknown(), Buffer.from(text), 'config x')
    expect(() => parse('['.repeat(1_001) + ']'.repeat(1_001))).toThrow(
      expect.objectContaining({ code: 'limit_exceeded' }) as Error,
    )
    expect(() => parse(`[${'{},'.repeat(500_000)}1]`)).toThrow(
      expect.objectContaining({ code: 'limit_exceeded' }) as Error,
    )
    expect(parse(`[${'{},'.repeat(499_999)}1]`)).toHaveLength(500_000)
  })
})
