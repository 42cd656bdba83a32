import { StrataError } from '@strata/base'
import { expect, it } from 'vitest'
import type { ObjectStore } from '../objects/object-store.js'
import { ObjectDeletes } from './object-deletes.js'

const named = (count: number): string[] => Array.from({ length: count }, (_, at) => `data/u/${at}`)
const away = (): StrataError => new StrataError('store_unavailable', 'it is away')

/** A store of these keys, which does not delete those that are sent. */
function storeOf(
  keys: readonly string[],
  { isSent, isAway = false }: { isSent: (key: string) => boolean; isAway?: boolean },
) {
  const left = new Set(keys)
  const store = {
    delete: async (keys: readonly string[]) => {
      if (isAway || keys.some((key) => left.has(key) && isSent(key))) return Promise.reject(away())
      for (const key of keys) left.delete(key)
    },
    stat: async (key: string) => (isAway ? Promise.reject(away()) : left.has(key) ? { size: 1, etag: 'x' } : undefined),
  } as unknown as ObjectStore
  return { store, left }
}

it('deletes what the store deletes, and says what stays', async () => {
  const keys = named(1_203)
  const sent = [keys[3]!, keys[700]!, keys[701]!]
  const { store, left } = storeOf(keys, { isSent: (key) => sent.includes(key) })
  const deletes = new ObjectDeletes(store)
  await deletes.delete(keys, undefined)
  expect([[...left], [...deletes.undeleted]]).toEqual([sent, sent])
})

it('lets a hundred objects stay; with one more the store deletes nothing', async () => {
  const keys = named(101)
  const { store } = storeOf(keys, { isSent: () => true })
  const deletes = new ObjectDeletes(store)
  await deletes.delete(keys.slice(1), undefined)
  expect(deletes.undeleted.size).toBe(100)
  await expect(deletes.delete(keys.slice(0, 1), undefined)).rejects.toMatchObject({ code: 'store_unavailable' })
})

it('ends with the first object if the store is away, and where it is told to', async () => {
  const { store } = storeOf(named(3), { isSent: () => false, isAway: true })
  const deletes = new ObjectDeletes(store)
  await expect(deletes.delete(named(3), undefined)).rejects.toMatchObject({ code: 'store_unavailable' })
  expect(deletes.undeleted.size).toBe(0)
  await expect(deletes.delete(named(3), AbortSignal.abort(new Error('told to')))).rejects.toThrow('told to')
})
