import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { RemovedNodes } from './removed-nodes.js'
import { temporaryStore } from './testing/temporary-store.js'

describe('RemovedNodes', () => {
  let temporary: Awaited<ReturnType<typeof temporaryStore>>
  let removed: RemovedNodes
  const note = { by: 'request-1', removedAt: '2026-11-28T12:00:00.000Z' }
  beforeEach(async () => {
    temporary = await temporaryStore()
    removed = new RemovedNodes(temporary.store)
  })
  afterEach(() => temporary.dispose())

  it('refuse a node until it is cleared, with the way out', async () => {
    expect(await removed.refusal('a')).toBeUndefined()
    await removed.add('a', note)
    const refusal = await removed.refusal('a')
    expect(refusal?.code).toBe('node_removed')
    expect(refusal?.message).toContain('--rejoin')
    expect(await removed.refusal('b')).toBeUndefined()
    await removed.clear('a')
    expect(await removed.refusal('a')).toBeUndefined()
  })

  it('keep the first request, and are taken back by that one only', async () => {
    await removed.add('a', note)
    await removed.add('a', { ...note, by: 'request-2' })
    await removed.clear('a', 'request-2')
    expect(await removed.find('a')).toEqual(note)
    await removed.clear('a', 'request-1')
    expect(await removed.find('a')).toBeUndefined()
    await removed.clear('a')
  })
})
