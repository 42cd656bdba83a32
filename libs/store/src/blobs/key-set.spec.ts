import { describe, expect, it } from 'vitest'
import { KeySet } from './key-set.js'

describe('KeySet', () => {
  it('has what was added and not deleted, as a Set does', () => {
    const set = new KeySet()
    const expected = new Set<string>()
    // Numbers that come again: texts are added twice, and deleted when they are not there.
    let state = 1
    const next = (below: number) => (state = (state * 48_271) % 2_147_483_647) % below
    for (let step = 0; step < 60_000; step++) {
      const text = `data/${next(5_000)}`
      if (next(5) < 2) {
        set.delete(text)
        expected.delete(text)
      } else {
        set.add(text)
        expected.add(text)
      }
      expect(set.size).toBe(expected.size)
    }
    for (let n = 0; n < 5_000; n++) expect(set.has(`data/${n}`)).toBe(expected.has(`data/${n}`))
  })

  it('finds all others when most are deleted', () => {
    const set = new KeySet()
    for (let n = 0; n < 20_000; n++) set.add(`${n}`)
    for (let n = 0; n < 20_000; n++) if (n % 7 !== 0) set.delete(`${n}`)
    for (let n = 0; n < 20_000; n++) expect(set.has(`${n}`)).toBe(n % 7 === 0)
  })

  it('grows in small steps: nothing else runs in one', () => {
    const set = new KeySet()
    const count = 60_000
    let largest = 0
    const held = () => process.memoryUsage().arrayBuffers
    for (let n = 0; n < count; n++) {
      const before = held()
      set.add(`${n}`)
      largest = Math.max(largest, held() - before)
    }
    expect(set.size).toBe(count)
    expect(largest).toBeGreaterThan(0)
    // All of them take more than a megabyte.
    expect(largest).toBeLessThan(50_000)
  })

  it('takes the empty text', () => {
    const set = new KeySet()
    expect(set.has('')).toBe(false)
    set.add('')
    expect(set.has('')).toBe(true)
  })
})
