import { describe, expect, it } from 'vitest'
import { exploreMarks, type MarksWorld, type WrongMarks } from './name-marks-model.js'

const WORLDS: MarksWorld[] = [true, false].flatMap((removes) => [true, false].map((same) => ({ removes, same })))

describe('a name that stands has its marks', () => {
  it.each(WORLDS)(
    'in any interleaving: $removes, $same',
    (world) => {
      const { broken, states } = exploreMarks(world)
      expect(broken).toBeUndefined()
      expect(states).toBeGreaterThan(1_000)
    },
    300_000,
  )

  // Two writers of one image, and a store that deletes tombstones: there, all rules matter.
  it.each(['late', 'early', 'shared', 'renew', 'again', 'order', 'lists', 'nothing'] satisfies WrongMarks[])(
    'but has not with the wrong rule "%s"',
    (wrong) => {
      expect(exploreMarks({ removes: true, same: true }, wrong).broken).toBeDefined()
    },
    300_000,
  )
})
