import { describe, expect, it } from 'vitest'
import { exploreUploads, UPLOAD_RULES, type Asked, type UploadRule, type UploadScene } from './upload-model.js'

const append = (start: number, chunk: string): Asked => ({ is: 'append', start, chunk })
const finish = (digest: string, chunk?: string): Asked => ({ is: 'finish', digest, ...(chunk ? { chunk } : {}) })
const cancel: Asked = { is: 'cancel' }
const ask = (digest: string): Asked => ({ is: 'ask', digest })

const SCENES = {
  'a client that asks another gateway for the same once more': {
    gateways: [
      [append(0, 'a'), finish('ab', 'b')],
      [append(0, 'a'), finish('ab', 'b')],
    ],
    losses: 1,
  },
  'two clients that send different bytes': {
    gateways: [
      [append(0, 'a'), finish('a')],
      [append(0, 'x'), append(1, 'b'), finish('ab')],
    ],
  },
  'two ends with different digests': {
    gateways: [
      [append(0, 'a'), finish('a')],
      [append(1, 'b'), finish('ab')],
    ],
    losses: 1,
  },
  'a cancellation beside an end': { gateways: [[append(0, 'a'), finish('a')], [cancel]], losses: 1 },
  'an end, its repetition, a collection': { gateways: [[finish('a', 'a')], [finish('a')]], collections: 1 },
  'an end, two collections, a manifest': { gateways: [[finish('a', 'a')]], collections: 2, manifest: 'a' },
  'an end, the reaper, a collection': { gateways: [[append(0, 'a'), finish('a')]], reaps: 2, collections: 1 },
  'two requests and the reaper': {
    gateways: [[append(0, 'a'), finish('a')], [finish('a')]],
    reaps: 1,
  },
  'an end, a client that asks, a collection': { gateways: [[finish('a', 'a')], [ask('a')]], collections: 1 },
  'an upload behind another one': {
    gateways: [
      [append(0, 'a'), cancel],
      [{ is: 'begin' }, append(0, 'a'), finish('a')],
    ],
    collections: 1,
  },
} as const satisfies Readonly<Record<string, UploadScene>>

/** Where a law breaks with a wrong rule, and which. */
const BREAKS: Readonly<Record<UploadRule, readonly [law: string, scene: keyof typeof SCENES]>> = {
  key: ['forgotten', 'two clients that send different bytes'],
  run: ['mixed', 'a client that asks another gateway for the same once more'],
  recheck: ['mixed', 'a client that asks another gateway for the same once more'],
  landed: ['forgotten', 'a client that asks another gateway for the same once more'],
  committing: ['twice', 'two ends with different digests'],
  digest: ['mixed', 'two ends with different digests'],
  out: ['promise', 'a cancellation beside an end'],
  order: ['promise', 'an end, two collections, a manifest'],
  expired: ['promise', 'an end, two collections, a manifest'],
  had: ['promise', 'an end, two collections, a manifest'],
  put: ['lost', 'an end, two collections, a manifest'],
  asked: ['promise', 'an end, a client that asks, a collection'],
  records: ['promise', 'an end, the reaper, a collection'],
  unchanged: ['robbed', 'an end, the reaper, a collection'],
  fresh: ['promise', 'an upload behind another one'],
}

describe('what was answered of an upload is there, and is what was sent', () => {
  it.each(Object.entries<UploadScene>(SCENES))('in any interleaving: %s', (_, scene) => {
    const { broken, states } = exploreUploads(scene)
    expect(broken).toBeUndefined()
    expect(states).toBeGreaterThan(100)
  })

  it.each(UPLOAD_RULES)('but not without the rule "%s"', (rule) => {
    const [law, scene] = BREAKS[rule]
    expect(exploreUploads(SCENES[scene], rule).broken).toMatch(new RegExp(`^${law}:`))
  })
})
