import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { AutoRemove } from './auto-remove.js'
import type { Entry } from './entry.js'

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

/** One that has exited, whose end was told. */
const ended = () =>
  ({
    record: { autoRemove: true },
    state: { status: 'exited' },
    removed: false,
    holders: 0,
    collected: true,
    attended: true,
  }) as Entry

it('tries again to remove a container whose root was in use, until it is gone', async () => {
  const entry = ended()
  let tries = 0
  const autoRemove = new AutoRemove(10, () => {
    entry.removed = ++tries === 3
    return Promise.resolve()
  })
  autoRemove.consider(entry)
  await vi.advanceTimersByTimeAsync(1)
  expect(tries).toBe(1)
  await vi.advanceTimersByTimeAsync(24 * 3600 * 1000)
  expect(tries).toBe(3)
  expect(vi.getTimerCount()).toBe(0)
})

it('asks ever more rarely for what does not go by itself: after an hour at the longest', async () => {
  const times: number[] = []
  const autoRemove = new AutoRemove(10, () => Promise.resolve(void times.push(Date.now())))
  autoRemove.consider(ended())
  await vi.advanceTimersByTimeAsync(24 * 3600 * 1000)
  const minutes = times.slice(1).map((time, index) => (time - times[index]!) / 60_000)
  expect(minutes.slice(0, 9)).toEqual([0.5, 1, 2, 4, 8, 16, 32, 60, 60])
  expect(times.length).toBeLessThan(33)
  autoRemove.close()
})

it('tries no more once it is closed, also if it was closed during a try', async () => {
  const remove = vi.fn(() => Promise.resolve(autoRemove.close()))
  const autoRemove: AutoRemove = new AutoRemove(10, remove)
  autoRemove.consider(ended())
  await vi.advanceTimersByTimeAsync(24 * 3600 * 1000)
  expect(remove).toHaveBeenCalledTimes(1)
  expect(vi.getTimerCount()).toBe(0)
})
