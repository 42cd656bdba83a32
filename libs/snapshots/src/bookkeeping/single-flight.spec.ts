import { expect, it } from 'vitest'
import { SingleFlight } from './single-flight.js'

it('does the work once for all who ask meanwhile, and anew for who asks later', async () => {
  const flights = new SingleFlight<number>()
  let runs = 0
  const work = (): Promise<number> => Promise.resolve(++runs)
  expect(
    await Promise.all([
      flights.run('a', undefined, work),
      flights.run('a', undefined, work),
      flights.run('b', undefined, work),
    ]),
  ).toEqual([1, 1, 2])
  expect(await flights.run('a', undefined, work)).toBe(3)
})

it('gives up for one who gives up, and ends the work with the last of them', async () => {
  const flights = new SingleFlight<string>()
  const [first, second] = [new AbortController(), new AbortController()]
  let ended = false
  const work = (signal: AbortSignal): Promise<string> =>
    new Promise((_, reject) =>
      signal.addEventListener('abort', () => {
        ended = true
        reject(new Error('ended'))
      }),
    )
  const [a, b] = [flights.run('k', first.signal, work), flights.run('k', second.signal, work)]
  first.abort()
  await expect(a).rejects.toMatchObject({ code: 'cancelled' })
  expect(ended).toBe(false)
  second.abort()
  await expect(b).rejects.toMatchObject({ code: 'cancelled' })
  expect(ended).toBe(true)
  // Who comes now is not bound to the flight that was ended.
  expect(await flights.run('k', undefined, () => Promise.resolve('new'))).toBe('new')
})

it('passes an error on to all', async () => {
  const flights = new SingleFlight<never>()
  const work = (): Promise<never> => Promise.reject(new Error('no'))
  expect(
    await Promise.allSettled([flights.run('a', undefined, work), flights.run('a', new AbortController().signal, work)]),
  ).toMatchObject([{ status: 'rejected' }, { status: 'rejected' }])
})
