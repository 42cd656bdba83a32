import { describe, expect, it } from 'vitest'
import { Silence } from './silence.js'

describe('silence', () => {
  let now = 0
  const at = (time: number) => (now = time)
  const started = () => {
    at(0)
    return new Silence(4_000, () => now)
  }

  it('grows from look to look, and begins anew at each change', () => {
    const silence = started()
    expect(silence.look('a', '1')).toBe(0)
    at(2_500)
    expect(silence.look('a', '1')).toBe(2_500)
    at(5_000)
    expect(silence.look('a', '1')).toBe(5_000)
    expect(silence.look('a', '2')).toBe(0)
    expect(silence.look('b', '2')).toBe(0)
  })

  it('does not grow in a time in which nobody looked', () => {
    const silence = started()
    silence.look('a', '1')
    at(2_500)
    silence.look('a', '1')
    at(3_600_000)
    expect(silence.look('a', '1')).toBe(6_500)
  })

  it('is forgotten with what is gone', () => {
    const silence = started()
    for (const id of ['a', 'b']) silence.look(id, '1')
    silence.keepOnly(new Set(['b']))
    at(1_000)
    expect([silence.look('a', '1'), silence.look('b', '1')]).toEqual([0, 1_000])
  })
})
