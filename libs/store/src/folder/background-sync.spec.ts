import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { BackgroundSync, SYNC_DELAY_MS } from './background-sync.js'

describe('BackgroundSync', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  it('starts one sync for many commits, five seconds after the first', async () => {
    const sync = vi.fn(() => Promise.resolve())
    const durability = new BackgroundSync('/folder', sync)
    for (let i = 0; i < 5; i++) durability.committed()
    await vi.advanceTimersByTimeAsync(SYNC_DELAY_MS - 1)
    expect(sync).not.toHaveBeenCalled()
    await vi.advanceTimersByTimeAsync(1)
    expect(sync).toHaveBeenCalledExactlyOnceWith('/folder')
    await vi.advanceTimersByTimeAsync(3 * SYNC_DELAY_MS)
    expect(sync).toHaveBeenCalledTimes(1)
  })

  it('syncs again for what was committed while a sync ran, and after one that failed', async () => {
    const first = Promise.withResolvers<undefined>()
    const sync = vi.fn<() => Promise<void>>().mockReturnValueOnce(first.promise).mockResolvedValue()
    const durability = new BackgroundSync('/folder', sync)
    durability.committed()
    await vi.advanceTimersByTimeAsync(SYNC_DELAY_MS)
    durability.committed()
    await vi.advanceTimersByTimeAsync(3 * SYNC_DELAY_MS)
    expect(sync).toHaveBeenCalledTimes(1)
    first.reject(new Error('the disk is slow'))
    await vi.advanceTimersByTimeAsync(SYNC_DELAY_MS)
    expect(sync).toHaveBeenCalledTimes(2)
  })

  it('syncs at close what has no sync yet, and nothing else', async () => {
    const sync = vi.fn(() => Promise.resolve())
    const durability = new BackgroundSync('/folder', sync)
    durability.close()
    expect(sync).not.toHaveBeenCalled()
    durability.committed()
    durability.close()
    await vi.advanceTimersByTimeAsync(3 * SYNC_DELAY_MS)
    expect(sync).toHaveBeenCalledTimes(1)
  })
})
