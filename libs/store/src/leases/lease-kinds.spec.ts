import { describe, expect, it } from 'vitest'
import { LEASE_KINDS, LEASE_POLICIES, LEASE_STATES, type LeaseKind, type LeasePolicy } from './lease-kinds.js'

describe('kinds of lease', () => {
  it('have a policy each: one without does not compile', () => {
    // @ts-expect-error The kind `mirror` has no row.
    const more: Readonly<Record<LeaseKind | 'mirror', LeasePolicy>> = LEASE_POLICIES
    expect(Object.keys(more).sort()).toEqual([...LEASE_KINDS].sort())
  })

  it('say for each state who keeps the lease', () => {
    for (const { keptBy } of Object.values(LEASE_POLICIES)) expect(Object.keys(keptBy)).toEqual([...LEASE_STATES])
  })
})
