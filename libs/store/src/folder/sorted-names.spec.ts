import { describe, expect, it } from 'vitest'
import { SortedNames } from './sorted-names.js'

describe('SortedNames', () => {
  it('gives what a sorted set gives, through 20,000 random changes', () => {
    let seed = 11
    const random = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below
    const word = () => `${'abc'[random(3)]!}${String(random(4_000))}${'-/.'[random(3)]!}`
    const model = new Set(Array.from({ length: 3_000 }, word))
    const names = new SortedNames([...model].sort())
    // It grows for a while, shrinks to nothing, and grows again.
    for (let n = 0; n < 20_000; n++) {
      const [name, grows] = [word(), n < 8_000 || n > 16_000]
      const victim = grows ? name : (model.values().next().value ?? name)
      if (grows && random(4) > 0) {
        names.add(name)
        model.add(name)
      } else {
        names.delete(victim)
        model.delete(victim)
      }
      if (n % 500 > 0) continue
      const all = [...model].sort()
      expect(names.from('', Infinity)).toEqual(all)
      expect(names.bytes).toBe(all.reduce((sum, { length }) => sum + length + 32, 0))
      for (let ask = 0; ask < 20; ask++) {
        const [from, count] = [word(), 1 + random(50)]
        expect(names.from(from, count)).toEqual(all.filter((one) => one >= from).slice(0, count))
      }
    }
  })

  it('has a name once that it is given twice', () => {
    const names = new SortedNames(['a', 'a', 'b'])
    names.delete('a')
    expect([names.from('', 5), names.bytes]).toEqual([['b'], 33])
  })

  it('may be empty', () => {
    const names = new SortedNames([])
    names.delete('a')
    expect([names.from('', 5), names.bytes]).toEqual([[], 0])
    names.add('b')
    names.add('a')
    names.add('a')
    expect(names.from('', 5)).toEqual(['a', 'b'])
  })
})
