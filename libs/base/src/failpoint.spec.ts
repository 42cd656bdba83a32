import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { expect, it } from 'vitest'
import { failpoint, FAILPOINT_CHANNEL, FAILPOINTS } from './failpoint.js'

it('tells who listens, at once, and nobody else', () => {
  const heard: unknown[] = []
  const listen = (message: unknown): void => void heard.push(message)
  failpoint('load.received')
  subscribe(FAILPOINT_CHANNEL, listen)
  failpoint('load.queued', 'a')
  expect(heard).toEqual([{ failpoint: 'load.queued', of: 'a' }])
  unsubscribe(FAILPOINT_CHANNEL, listen)
  failpoint('load.received')
  expect(heard).toHaveLength(1)
})

it('names each failpoint once', () => {
  expect(new Set(FAILPOINTS).size).toBe(FAILPOINTS.length)
})
