import { expect, it } from 'vitest'
import type { Etag, ObjectStore } from './objects/object-store.js'
import { pageOfRecords } from './record-pages.js'
import { TOMBSTONE_BYTES } from './records.js'

const keyOf = (at: number): string => `a/${`${at}`.padStart(6, '0')}`

/** So many tombstones, and a record behind them and behind every one that is `live`. */
function listOf(tombstones: number, live: readonly number[]) {
  const lists: number[] = []
  const list: ObjectStore['list'] = (prefix, { after = '', limit = 1_000 } = {}) => {
    const first = after === '' ? 0 : Number(after.slice(prefix.length)) + 1
    const keys = Array.from({ length: Math.max(0, Math.min(limit, tombstones + 1 - first)) }, (_, at) => first + at)
    lists.push(limit)
    const objects = keys.map((at) => ({
      key: keyOf(at),
      size: at === tombstones || live.includes(at) ? TOMBSTONE_BYTES + 1 : TOMBSTONE_BYTES,
      etag: 'etag' as Etag,
    }))
    const last = objects.at(-1)
    return Promise.resolve({ objects, ...(last && last.key !== keyOf(tombstones) ? { next: last.key } : {}) })
  }
  return { store: { list }, lists }
}

it('one record behind 100,000 tombstones takes some hundred lists, of at most 1,000 keys each', async () => {
  const { store, lists } = listOf(100_000, [])
  expect(await pageOfRecords(store, 'a/', (key) => key, 1)).toEqual({ items: [keyOf(100_000)] })
  expect(lists.length).toBeLessThan(110)
  expect([lists[0], Math.max(...lists)]).toEqual([2, 1_000])
})

it('gives no more than was asked for, and where the next page begins', async () => {
  const live = [3, 10, 11, 500, 501, 502]
  const { store, lists } = listOf(2_000, live)
  const all: string[] = []
  for (let after: string | undefined; ;) {
    const { items, next } = await pageOfRecords(store, 'a/', (key) => key, 2, after)
    expect(items.length).toBeLessThanOrEqual(2)
    all.push(...items)
    if (next === undefined) break
    after = next
  }
  expect(all).toEqual([...live, 2_000].map(keyOf))
  // Without a tombstone on its way a page lists one key more than it has.
  lists.length = 0
  await pageOfRecords(store, 'a/', (key) => key, 2, keyOf(499))
  expect(lists).toEqual([3])
})
