import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { expect, it } from 'vitest'
import { step, STEP_CHANNEL, STEPS } from './step.js'

it('tells who listens, at once, and nobody else', () => {
  const heard: unknown[] = []
  const listen = (message: unknown): void => void heard.push(message)
  step('load.received')
  subscribe(STEP_CHANNEL, listen)
  step('load.queued', 'a')
  expect(heard).toEqual([{ step: 'load.queued', of: 'a' }])
  unsubscribe(STEP_CHANNEL, listen)
  step('load.received')
  expect(heard).toHaveLength(1)
})

it('names each step once', () => {
  expect(new Set(STEPS).size).toBe(STEPS.length)
})
