import { describe, expect, it } from 'vitest'
import { exploreNaming, type NamingWorld, type WrongNaming } from './names-model.js'

const WORLDS: NamingWorld[] = [true, false].flatMap((removes) => [true, false].map((taken) => ({ removes, taken })))

describe('an upload whose client was told of its end changes no name', () => {
  it.each(WORLDS)(
    'in any interleaving: $removes, $taken',
    (world) => {
      const { broken, states } = exploreNaming(world)
      expect(broken).toBeUndefined()
      expect(states).toBeGreaterThan(1_000)
    },
    60_000,
  )

  // The name is another image’s at first, and the store deletes tombstones: all rules matter.
  it.each(['named', 'told', 'owner', 'announce', 'renew', 'forget', 'mark'] satisfies WrongNaming[])(
    'but does with the wrong rule "%s"',
    (wrong) => {
      expect(exploreNaming({ removes: true, taken: true }, wrong).broken).toBeDefined()
    },
    60_000,
  )
})
