import { describe, expect, it } from 'vitest'
import { exploreLeasing, LEASE_OWNERS, type LeaseOwner, type WrongLeasing } from './lease-model.js'

/** With which owner a law breaks. */
const BREAKS_WITH: Readonly<Record<WrongLeasing, LeaseOwner>> = {
  beat: 'heartbeat',
  renew: 'expires',
  silence: 'heartbeat',
  expiry: 'expires',
  kind: 'expires',
  job: 'job',
  queue: 'job',
  over: 'job',
  unchanged: 'job',
  owner: 'heartbeat',
  order: 'heartbeat',
}

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

  it.each(Object.entries(BREAKS_WITH) as [WrongLeasing, LeaseOwner][])(
    'but not with the wrong rule "%s"',
    (wrong, owner) => {
      expect(exploreLeasing(owner, wrong).broken).toBeDefined()
    },
    60_000,
  )
})
