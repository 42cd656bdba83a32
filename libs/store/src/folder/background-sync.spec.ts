import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { BackgroundSync, SYNC_DELAY_MS } from './background-sync.js'

describe('BackgroundSync', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  it('starts one sync for many commits, five seconds after the first, and none where nothing was committed', async () => {
    const sync = vi.fn(() => Promise.resolve())
    const durability = new BackgroundSync('/folder', { sync })
    await vi.advanceTimersByTimeAsync(3 * SYNC_DELAY_MS)
    for (let i = 0; i < 5; i++) {
      durability.committed()
      await vi.advanceTimersByTimeAsync(SYNC_DELAY_MS / 5 - 1)
    }
    expect(sync).not.toHaveBeenCalled()
    await vi.advanceTimersByTimeAsync(5)
    expect(sync).toHaveBeenCalledExactlyOnceWith('/folder')
    await vi.advanceTimersByTimeAsync(3 * SYNC_DELAY_MS)
    expect(sync).toHaveBeenCalledTimes(1)
  })

  it('syncs again for what was committed while a sync ran: when that is done, if the five seconds are over', async () => {
    const first = Promise.withResolvers<undefined>()
    const sync = vi.fn<() => Promise<void>>().mockReturnValueOnce(first.promise).mockResolvedValue()
    const durability = new BackgroundSync('/folder', { sync })
    durability.committed()
    await vi.advanceTimersByTimeAsync(SYNC_DELAY_MS)
    durability.committed()
    await vi.advanceTimersByTimeAsync(3 * SYNC_DELAY_MS)
    expect(sync).toHaveBeenCalledTimes(1)
    first.resolve(undefined)
    await vi.advanceTimersByTimeAsync(0)
    expect(sync).toHaveBeenCalledTimes(2)
  })

  it('tries a sync that failed again after the same delay, and says it once', async () => {
    const sync = vi
      .fn<() => Promise<void>>()
      .mockRejectedValueOnce(new Error('the disk is slow'))
      .mockRejectedValueOnce(new Error('the disk is slow'))
      .mockResolvedValue()
    const warn = vi.fn<(message: string) => void>()
    const durability = new BackgroundSync('/folder', { sync, warn })
    durability.committed()
    await vi.advanceTimersByTimeAsync(2 * SYNC_DELAY_MS - 1)
    expect(sync).toHaveBeenCalledTimes(1)
    await vi.advanceTimersByTimeAsync(10 * SYNC_DELAY_MS)
    expect(sync).toHaveBeenCalledTimes(3)
    expect(warn.mock.calls).toEqual([[expect.stringContaining('the disk is slow')]])
  })

  it('says what a sync covers when it is done, never when it failed', async () => {
    const first = Promise.withResolvers<undefined>()
    const sync = vi
      .fn<() => Promise<void>>()
      .mockReturnValueOnce(first.promise)
      .mockRejectedValueOnce(new Error('no'))
      .mockResolvedValue()
    const covered: number[] = []
    let commits = 0
    const cover = () => {
      const then = commits
      return () => Promise.resolve(void covered.push(then))
    }
    const durability = new BackgroundSync('/folder', { sync, cover })
    const commit = () => {
      commits++
      durability.committed()
    }
    commit()
    await vi.advanceTimersByTimeAsync(SYNC_DELAY_MS)
    commit()
    first.resolve(undefined)
    await vi.advanceTimersByTimeAsync(0)
    expect(covered).toEqual([1])
    await vi.advanceTimersByTimeAsync(SYNC_DELAY_MS)
    commit()
    expect(covered).toEqual([1])
    await vi.advanceTimersByTimeAsync(2 * SYNC_DELAY_MS)
    expect(covered).toEqual([1, 3])
  })

  it('syncs at close what has no sync yet, and nothing else', async () => {
    const sync = vi.fn(() => Promise.resolve())
    new BackgroundSync('/folder', { sync }).close()
    expect(sync).not.toHaveBeenCalled()
    const durability = new BackgroundSync('/folder', { sync })
    durability.committed()
    durability.close()
    await vi.advanceTimersByTimeAsync(3 * SYNC_DELAY_MS)
    expect(sync).toHaveBeenCalledTimes(1)
  })
})
