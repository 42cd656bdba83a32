import { expect, it } from 'vitest'
import { Serial, SerialByKey } from './serial.js'

it('runs works one after another, in order', async () => {
  const serial = new Serial()
  const seen: string[] = []
  const first = Promise.withResolvers<undefined>()
  const works = [
    serial.run(async () => {
      seen.push('first begins')
      await first.promise
      seen.push('first ends')
    }),
    serial.run(() => Promise.resolve(seen.push('second'))),
  ]
  await Promise.resolve()
  expect(seen).toEqual(['first begins'])
  first.resolve(undefined)
  await Promise.all(works)
  expect(seen).toEqual(['first begins', 'first ends', 'second'])
})

it('tells a failure to who asked for that work, and to nobody else', async () => {
  const serial = new Serial()
  const failed = serial.run(() => Promise.reject(new Error('no')))
  const thrown = serial.run(() => {
    throw new Error('at once')
  })
  const next = serial.run(() => Promise.resolve('done'))
  await expect(failed).rejects.toThrow('no')
  await expect(thrown).rejects.toThrow('at once')
  expect(await next).toBe('done')
  await serial.settled()
})

it('has a line for each key, and forgets a key without works', async () => {
  const serial = new SerialByKey<string>()
  const held = Promise.withResolvers<string>()
  const a = serial.run('a', () => held.promise)
  expect(await serial.run('b', () => Promise.resolve('b'))).toBe('b')
  const behind = serial.run('a', () => Promise.reject(new Error('no')))
  expect(serial.size).toBe(1)
  held.resolve('a')
  expect(await a).toBe('a')
  await expect(behind).rejects.toThrow('no')
  expect(serial.size).toBe(0)
})
