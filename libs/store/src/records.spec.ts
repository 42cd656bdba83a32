import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { MAX_RECORD_BYTES } from './objects/object-store.js'
import { GONE, Records } from './records.js'
import { temporaryStore, withoutAbilities } from './testing/temporary-store.js'

describe('Records', () => {
  let temporary: Awaited<ReturnType<typeof temporaryStore>>
  let records: Records<{ n: number }>
  beforeEach(async () => {
    temporary = await temporaryStore()
    records = new Records(temporary.store, z.object({ n: z.number() }), 'the test record')
  })
  afterEach(() => temporary.dispose())

  it('count what eight workers add at once', async () => {
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        for (let i = 0; i < 10; i++) await records.update('uploads/n', (value) => ({ n: (value?.n ?? 0) + 1 }))
      }),
    )
    expect(await records.read('uploads/n')).toEqual({ n: 80 })
  })

  it('leave a record as it is, or end it, when told so', async () => {
    await records.update('uploads/n', () => ({ n: 1 }))
    const before = await records.find('uploads/n')
    expect(await records.update('uploads/n', () => undefined)).toEqual({ n: 1 })
    expect(await records.find('uploads/n')).toEqual(before)
    expect(await records.update('uploads/n', () => GONE)).toBeUndefined()
    expect(await records.update('uploads/n', () => GONE)).toBeUndefined()
    expect(await records.read('uploads/n')).toBeUndefined()
  })

  it('give up when others are always quicker', async () => {
    const losing = new Records(
      { ...withoutAbilities(temporary.store), create: () => Promise.resolve(undefined) },
      z.object({ n: z.number() }),
      'the test record',
    )
    await expect(losing.update('uploads/n', () => ({ n: 1 }))).rejects.toMatchObject({ code: 'store_unavailable' })
  })

  it.each([
    ['no JSON', '{'],
    ['no record', '[]'],
    ['of another shape', '{"rev":"a","value":{"n":"one"}}'],
  ])('are corrupt when they are %s', async (_, text) => {
    await temporary.store.create('uploads/n', Buffer.from(text))
    await expect(records.read('uploads/n')).rejects.toMatchObject({ code: 'corrupt' })
  })

  it('are never written so that they could not be read again', async () => {
    const whole = new Records(temporary.store, z.object({ n: z.number().int() }), 'the test record')
    await whole.update('uploads/n', () => ({ n: 1 }))
    for (const n of [2 ** 53, 0.5, NaN]) {
      await expect(whole.update('uploads/n', () => ({ n }))).rejects.toMatchObject({ code: 'internal' })
      expect(() => whole.expectFits('uploads/n', { n })).toThrow('could not be read again')
      await expect(whole.write('uploads/m', { n }, undefined)).rejects.toMatchObject({ code: 'internal' })
    }
    expect(await whole.read('uploads/n')).toEqual({ n: 1 })
    expect(await whole.read('uploads/m')).toBeUndefined()
  })

  it('are read a few at a time by a list, and come in the order of their keys', async () => {
    const numbers = Array.from({ length: 50 }, (_, n) => n)
    for (const n of numbers) await records.update(`uploads/${String(n).padStart(2, '0')}`, () => ({ n }))
    const reading = { now: 0, most: 0 }
    const slow = new Records(
      {
        ...withoutAbilities(temporary.store),
        read: async (...args) => {
          reading.most = Math.max(reading.most, ++reading.now)
          await new Promise(setImmediate)
          reading.now--
          return temporary.store.read(...args)
        },
      },
      z.object({ n: z.number() }),
      'the test record',
    )
    const found: number[] = []
    for await (const { value } of slow.list('uploads/')) found.push(value.n)
    expect(found).toEqual(numbers)
    expect(reading.most).toBe(16)
  })

  it('are small', async () => {
    const large = new Records(temporary.store, z.object({ text: z.string() }), 'the test record')
    await expect(large.update('uploads/n', () => ({ text: 'x'.repeat(MAX_RECORD_BYTES) }))).rejects.toMatchObject({
      code: 'limit_exceeded',
    })
  })
})
