import type { ObjectStore } from './objects/object-store.js'
import { TOMBSTONE_BYTES } from './records.js'

/** Keys that one list asks for at most. */
const MOST_KEYS = 1_000

/**
 * A page of the records below a prefix: at most `limit` behind the key `after`, in the order of
 * their keys; `next` if more may follow. Reads no record. `read` gives what a key stands for, or
 * `undefined` if it is to be left out.
 *
 * There may be any number of tombstones before a record. So each list asks for four times as many
 * keys as the one before, up to `MOST_KEYS`: a page of one record behind 100,000 tombstones takes
 * some 100 lists, and a page without tombstones lists one key more than it returns.
 */
export async function pageOfRecords<T>(
  store: Pick<ObjectStore, 'list'>,
  prefix: string,
  read: (key: string) => T | undefined,
  limit: number,
  after?: string,
): Promise<{ readonly items: T[]; readonly next?: T }> {
  const items: T[] = []
  let from = after
  for (let keys = Math.min(limit + 1, MOST_KEYS); ; keys = Math.min(4 * keys, MOST_KEYS)) {
    const page = await store.list(prefix, { limit: keys, ...(from === undefined ? {} : { after: from }) })
    for (const { key, size } of page.objects) {
      const item = size === TOMBSTONE_BYTES ? undefined : read(key)
      if (item !== undefined) items.push(item)
    }
    if (items.length > limit) return { items: items.slice(0, limit), next: items[limit - 1]! }
    if (page.next === undefined) return { items }
    from = page.next
  }
}
