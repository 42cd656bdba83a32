import { describe, expect, it } from 'vitest'
import { exploreManifests, type WrongManifests } from './manifests-model.js'

describe('a tag that was answered stands with its manifest, and what stands has its blob', () => {
  it('in any interleaving', () => {
    const { broken, states } = exploreManifests()
    expect(broken).toBeUndefined()
    expect(states).toBeGreaterThan(10_000)
  }, 300_000)

  it.each(['renew', 'look', 'again', 'late', 'unchanged', 'rmi', 'hold'] satisfies WrongManifests[])(
    'but not with the wrong rule "%s"',
    (wrong) => {
      expect(exploreManifests(wrong).broken).toBeDefined()
    },
    300_000,
  )
})
