import { expect, it } from 'vitest'
import { Slots, Turns } from './slots.js'

const forever = new AbortController().signal

it('runs so many at a time, the others in their order', async () => {
  const slots = new Slots(2)
  const begun: number[] = []
  const ends = Array.from({ length: 4 }, () => Promise.withResolvers<undefined>())
  const works = ends.map(({ promise }, at) =>
    slots.run(forever, async () => {
      begun.push(at)
      await promise
    }),
  )
  await Promise.resolve()
  await Promise.resolve()
  expect(begun).toEqual([0, 1])
  ends[1]!.resolve(undefined)
  await works[1]
  await expect.poll(() => begun).toEqual([0, 1, 2])
  for (const { resolve } of ends) resolve(undefined)
  await Promise.all(works)
  expect(begun).toEqual([0, 1, 2, 3])
})

it('one that is given up takes no slot, waiting or in the moment when it gets one', async () => {
  const slots = new Slots(1)
  const first = Promise.withResolvers<undefined>()
  const running = slots.run(forever, () => first.promise)
  const [waiting, late] = [new AbortController(), new AbortController()]
  const refused = slots.run(waiting.signal, () => Promise.resolve())
  const refusedLate = slots.run(late.signal, () => Promise.resolve())
  waiting.abort(new Error('given up'))
  await expect(refused).rejects.toThrow('given up')
  first.resolve(undefined)
  late.abort(new Error('too late'))
  await expect(refusedLate).rejects.toThrow('too late')
  await running
  expect(await slots.run(forever, () => Promise.resolve('free'))).toBe('free')
})

it('one work of a key at a time, and those of other keys beside it; one that is given up does not wait', async () => {
  const turns = new Turns()
  const begun: string[] = []
  const end = Promise.withResolvers<undefined>()
  const run = (key: string, signal = forever) =>
    turns.run(key, signal, async () => {
      begun.push(key)
      await end.promise
    })
  const given = new AbortController()
  const [first, second, other, refused] = [run('a'), run('a'), run('b'), run('a', given.signal)]
  given.abort(new Error('given up'))
  await expect(refused).rejects.toThrow('given up')
  expect(begun).toEqual(['a', 'b'])
  end.resolve(undefined)
  await Promise.all([first, second, other])
  expect(begun).toEqual(['a', 'b', 'a'])
  expect(turns.size).toBe(0)
})
