import { describe, expect, it } from 'vitest'
import { exploreStore, type Scene, type WrongRule } from './store-model.js'

const SCENES: readonly Scene[] = [
  ...[false, true].flatMap((tombstonesStay) => [
    { collectors: 1, rounds: 2, deletions: 0, tombstonesStay },
    { collectors: 0, rounds: 0, deletions: 2, tombstonesStay },
  ]),
  { collectors: 2, rounds: 1, deletions: 0, tombstonesStay: true },
  { collectors: 1, rounds: 1, deletions: 1, tombstonesStay: true },
]

const COLLECTED: Scene = { collectors: 1, rounds: 1, deletions: 0, tombstonesStay: true }
const DELETED: Scene = { collectors: 0, rounds: 0, deletions: 1, tombstonesStay: true }
const BOTH: Scene = { collectors: 1, rounds: 1, deletions: 1, tombstonesStay: false }
/** Where the blob is lost with a wrong rule. */
const LOST_IN: Readonly<Record<WrongRule, Scene>> = {
  order: COLLECTED,
  rev: COLLECTED,
  tomb: COLLECTED,
  lease: COLLECTED,
  pending: DELETED,
  maker: DELETED,
  look: DELETED,
  blind: DELETED,
  early: DELETED,
  again: BOTH,
}

describe('a blob that someone counts on is never collected', () => {
  it.each(SCENES)(
    'in any interleaving with $collectors collectors of $rounds rounds and $deletions deletions, tombstones stay: $tombstonesStay',
    (scene) => {
      const { broken, states } = exploreStore(scene)
      expect(broken).toBeUndefined()
      expect(states).toBeGreaterThan(1_000)
    },
    300_000,
  )

  it.each(Object.entries(LOST_IN) as [WrongRule, Scene][])(
    'but is lost with the wrong rule "%s"',
    (wrong, scene) => {
      expect(exploreStore(scene, wrong).broken).toBeDefined()
    },
    300_000,
  )
})
