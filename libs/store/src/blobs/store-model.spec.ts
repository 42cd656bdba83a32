import { describe, expect, it } from 'vitest'
import { explore, type WrongRule } from './store-model.js'

describe('a blob that someone counts on is never collected', () => {
  it.each([1, 2])(
    'in any interleaving with %i collectors',
    (collectors) => {
      const { lost, states } = explore(collectors)
      expect(lost).toBeUndefined()
      expect(states).toBeGreaterThan(1_000)
    },
    60_000,
  )

  it.each(['order', 'rev', 'tomb', 'lease'] satisfies WrongRule[])(
    'but is lost with the wrong rule "%s"',
    (wrong) => {
      expect(explore(1, wrong).lost).toBeDefined()
    },
    60_000,
  )
})
