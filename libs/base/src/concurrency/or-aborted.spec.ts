import { getEventListeners } from 'node:events'
import { expect, it } from 'vitest'
import { orAborted } from './or-aborted.js'

it('settles as the promise, and leaves no listener', async () => {
  const { signal } = new AbortController()
  expect(await orAborted(Promise.resolve('x'), signal)).toBe('x')
  await expect(orAborted(Promise.reject(new Error('no')), signal)).rejects.toThrow('no')
  expect(getEventListeners(signal, 'abort')).toEqual([])
})

it('rejects with the reason as soon as the signal aborts, also one that is aborted already', async () => {
  const leaving = new AbortController()
  const never = new Promise<never>(() => undefined)
  const asked = orAborted(never, leaving.signal)
  leaving.abort(new Error('left'))
  await expect(asked).rejects.toThrow('left')
  await expect(orAborted(Promise.resolve('x'), leaving.signal)).rejects.toThrow('left')
  await expect(orAborted(never, leaving.signal, () => new Error('another'))).rejects.toThrow('another')
  expect(getEventListeners(leaving.signal, 'abort')).toEqual([])
})
