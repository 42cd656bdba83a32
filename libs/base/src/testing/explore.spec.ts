import { describe, expect, it } from 'vitest'
import { explore, remembered, type Model } from './explore.js'

/** Two processes add one to a number, each by a read and a write. `at`: what each has read. */
interface State {
  readonly number: number
  readonly at: readonly (number | 'new' | 'over')[]
}
const counting = (isAtomic: boolean): Model<State> => ({
  first: { number: 0, at: ['new', 'new'] },
  *steps({ number, at }) {
    for (const [i, read] of at.entries()) {
      if (read === 'over') continue
      if (read !== 'new' || isAtomic)
        yield { number: (typeof read === 'number' ? read : number) + 1, at: at.with(i, 'over') }
      else yield { number, at: at.with(i, number) }
    }
  },
  keyOf: ({ number, at }) => `${number} ${at.join()}`,
  brokenLaw: ({ number }, isOver) => (isOver && number !== 2 ? 'one was lost' : undefined),
})

describe('an exploration', () => {
  it('finds the interleaving that breaks a law', () => {
    expect(explore(counting(false)).broken).toMatch(/^one was lost: \{"number":1/)
  })

  it('visits each state once, and no law is broken where none can be', () => {
    expect(explore(counting(true))).toEqual({ states: 4, broken: undefined })
  })

  it('of a record that was seen, only whether it is the same counts; nothing may be there again', () => {
    const [old, now] = [{ rev: 1 }, { rev: 2 }]
    expect(remembered(now, { rev: 2 })).toBe('=')
    expect([remembered(old, now), remembered(old, null)]).toEqual(['!', '!'])
    expect([remembered(null, null), remembered(null, now)]).toEqual(['=', '-'])
    expect(remembered(old, now, 'its content')).toBe('its content')
  })
})
