import { describe, expect, it } from 'vitest'
import { exploreLeasing, LEASE_OWNERS, WRONG_LEASING } from './lease-model.js'

describe('a lease lives exactly as long as its owner', () => {
  it.each(LEASE_OWNERS)(
    'in any interleaving, with an owner of the kind "%s"',
    (owner) => {
      const { broken, states } = exploreLeasing(owner)
      expect(broken).toBeUndefined()
      expect(states).toBeGreaterThan(100)
    },
    60_000,
  )

  it.each(WRONG_LEASING)(
    'but not with the wrong rule "%s"',
    (wrong) => {
      expect(LEASE_OWNERS.some((owner) => exploreLeasing(owner, wrong).broken !== undefined)).toBe(true)
    },
    60_000,
  )
})
