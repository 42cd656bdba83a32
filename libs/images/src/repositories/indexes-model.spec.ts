import { describe, expect, it } from 'vitest'
import { exploreIndexes, type WrongIndexes } from './indexes-model.js'

describe('a child that was deleted is not in its index again, and one that was not is there', () => {
  it('in any interleaving', () => {
    const { broken, states } = exploreIndexes()
    expect(broken).toBeUndefined()
    expect(states).toBeGreaterThan(100)
  })

  it.each(['name', 'look', 'unchanged', 'tag', 'renew', 'touch'] satisfies WrongIndexes[])(
    'but not with the wrong rule "%s"',
    (wrong) => {
      expect(exploreIndexes(wrong).broken).toBeDefined()
    },
  )
})
