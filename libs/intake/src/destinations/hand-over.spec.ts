import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { HandOver } from './hand-over.js'

const stateOf = async (promise: Promise<unknown>): Promise<string> => {
  await turn()
  return Promise.race([
    promise.then(
      () => 'done',
      (error: unknown) => String(error),
    ),
    Promise.resolve('pending'),
  ])
}
const a = Buffer.from('a')
const b = Buffer.from('b')

describe('HandOver', () => {
  it('lends each piece until the next is asked for, whoever comes first', async () => {
    for (const takerFirst of [true, false]) {
      const source = new HandOver()
      const taker = source[Symbol.asyncIterator]()
      const early = takerFirst ? taker.next() : undefined
      const given = source.give(a)
      expect((await (early ?? taker.next())).value).toBe(a)
      expect(await stateOf(given)).toBe('pending')
      const next = taker.next()
      await given
      const last = source.give(b)
      expect((await next).value).toBe(b)
      source.end()
      expect((await taker.next()).done).toBe(true)
      await last
    }
  })

  it('fails whoever waits, and whoever comes later', async () => {
    const error = new Error('broken')
    const source = new HandOver()
    const taker = source[Symbol.asyncIterator]()
    const waits = taker.next()
    source.fail(error)
    await expect(waits).rejects.toBe(error)
    await expect(source.give(a)).rejects.toBe(error)
    await expect(taker.next()).rejects.toBe(error)

    const other = new HandOver()
    const given = other.give(a)
    other.fail(error)
    await expect(given).rejects.toBe(error)
  })
})
