import { expect, it } from 'vitest'
import { SingleFlight, SingleFlightByKey } from './single-flight.js'

/** A work that ends when it is told to, or when its signal aborts. */
function controlled() {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  let given: AbortSignal | undefined
  let stop: (() => void) | undefined
  return {
    work: (signal: AbortSignal, stopJoining: () => void): Promise<string> => {
      given = signal
      stop = stopJoining
      signal.addEventListener('abort', () => reject(signal.reason as Error))
      return promise
    },
    end: resolve,
    fail: reject,
    stopJoining: () => stop!(),
    get isAborted() {
      return given?.aborted
    },
  }
}

it('does the work once for all who ask meanwhile, and anew for who asks later', async () => {
  const flights = new SingleFlight<number>()
  let runs = 0
  const work = (): Promise<number> => Promise.resolve(++runs)
  expect(await Promise.all([flights.run(work), flights.run(work)])).toEqual([1, 1])
  expect(flights.isIdle).toBe(true)
  expect(await flights.run(work)).toBe(2)
})

it('starts the work before `run` returns', () => {
  const first = controlled()
  const flights = new SingleFlight<string>()
  void flights.run(first.work)
  expect(first.isAborted).toBe(false)
  expect(flights.isJoinable).toBe(true)
})

it('passes an error on to all, also one that is thrown at once, and starts anew after it', async () => {
  const flights = new SingleFlight<string>()
  const fail = (): Promise<never> => {
    throw new Error('no')
  }
  const asked = [flights.run(fail), flights.run(fail, new AbortController().signal)]
  for (const one of asked) await expect(one).rejects.toThrow('no')
  expect(await flights.run(() => Promise.resolve('again'))).toBe('again')
})

it('rejects one who leaves at once with the reason, and aborts the work with the last of them', async () => {
  const flights = new SingleFlight<string>()
  const [first, second] = [new AbortController(), new AbortController()]
  const flight = controlled()
  const asked = [flights.run(flight.work, first.signal), flights.run(flight.work, second.signal)]
  first.abort(new Error('first left'))
  await expect(asked[0]).rejects.toThrow('first left')
  expect(flight.isAborted).toBe(false)
  second.abort(new Error('second left'))
  // Whoever calls now does not join what is being ended.
  const next = flights.run(() => Promise.resolve('new'))
  await expect(asked[1]).rejects.toThrow('second left')
  expect(flight.isAborted).toBe(true)
  expect(await next).toBe('new')
})

it('goes on for one without a signal, whoever leaves', async () => {
  const flights = new SingleFlight<string>()
  const leaving = new AbortController()
  const flight = controlled()
  const [stays, leaves] = [flights.run(flight.work), flights.run(flight.work, leaving.signal)]
  leaving.abort(new Error('left'))
  await expect(leaves).rejects.toThrow('left')
  expect(flight.isAborted).toBe(false)
  flight.end('done')
  expect(await stays).toBe('done')
})

it('does not begin for one who has left already', async () => {
  const flights = new SingleFlight<string>()
  await expect(flights.run(() => Promise.resolve('x'), AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone')
  expect(flights.isIdle).toBe(true)
})

it('is not joined once its work says so, and is waited for all the same', async () => {
  const flights = new SingleFlight<string>()
  const [first, second] = [controlled(), controlled()]
  const one = flights.run(first.work)
  first.stopJoining()
  const two = flights.run(second.work)
  first.end('first')
  expect(await one).toBe('first')
  // The end of the first does not make the second one unknown.
  expect(flights.isJoinable).toBe(true)
  const joins = flights.run(() => Promise.resolve('third'))
  second.end('second')
  expect(await Promise.all([two, joins])).toEqual(['second', 'second'])
})

it('lets the last one that leaves wait for the end of the work', async () => {
  const flights = new SingleFlightByKey<string, string>()
  const leaving = new AbortController()
  const cleaned = Promise.withResolvers<undefined>()
  let isEnded = false
  const asked = flights.run(
    'a',
    async () => {
      await cleaned.promise
      isEnded = true
      return 'a'
    },
    leaving.signal,
  )
  leaving.abort(new Error('left'))
  await expect(asked).rejects.toThrow('left')
  const settled = flights.settled(['a'])
  expect(isEnded).toBe(false)
  cleaned.resolve(undefined)
  await settled
  expect(isEnded).toBe(true)
})

it('aborts all that is under way when it is closed, and waits for its end', async () => {
  const flights = new SingleFlightByKey<string, string>()
  const [a, b] = [controlled(), controlled()]
  const asked = [flights.run('a', a.work), flights.run('b', b.work)]
  const ended = Promise.allSettled(asked)
  await flights.close()
  expect([a.isAborted, b.isAborted]).toEqual([true, true])
  expect((await ended).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
})

it('has a flight for each key, and forgets a key without work', async () => {
  const flights = new SingleFlightByKey<string, string>()
  const [a, again] = [controlled(), controlled()]
  const first = flights.run('a', a.work)
  expect(await flights.run('b', () => Promise.resolve('b'))).toBe('b')
  expect([flights.isJoinable('a'), flights.isJoinable('b')]).toEqual([true, false])
  a.stopJoining()
  const second = flights.run('a', again.work)
  a.end('first')
  expect(await first).toBe('first')
  await Promise.resolve()
  expect(flights.size).toBe(1)
  again.end('second')
  expect(await second).toBe('second')
  await expect.poll(() => flights.size).toBe(0)
})
