import { describe, expect, it } from 'vitest'
import { explore, WRONG_RULES, type Scene } from './store-model.js'

const SCENES: readonly Scene[] = [
  ...[false, true].flatMap((tombstonesStay) => [
    { collectors: 1, rounds: 2, deletions: 0, tombstonesStay },
    { collectors: 0, rounds: 0, deletions: 2, tombstonesStay },
  ]),
  { collectors: 2, rounds: 1, deletions: 0, tombstonesStay: true },
  { collectors: 1, rounds: 1, deletions: 1, tombstonesStay: true },
]

describe('a blob that someone counts on is never collected', () => {
  it.each(SCENES)(
    'in any interleaving with $collectors collectors of $rounds rounds and $deletions deletions, tombstones stay: $tombstonesStay',
    (scene) => {
      const { lost, states } = explore(scene)
      expect(lost).toBeUndefined()
      expect(states).toBeGreaterThan(1_000)
    },
    300_000,
  )

  it.each(WRONG_RULES)(
    'but is lost with the wrong rule "%s"',
    (wrong) => {
      const beside = [
        { collectors: 0, rounds: 0, deletions: 1 },
        { collectors: 1, rounds: 2, deletions: 0 },
      ]
      expect(beside.some((scene) => explore({ ...scene, tombstonesStay: true }, wrong).lost)).toBe(true)
    },
    300_000,
  )
})
