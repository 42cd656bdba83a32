import { failpoint } from '@strata/base'
import { keys, PREFIX, leaseInKey } from '../keys.js'
import { listAll, type ObjectStore } from '../objects/object-store.js'
import { tombstone } from '../records.js'

/** How many marks are made at the same time in a store of an older version. */
const AT_ONCE = 16

/**
 * The ids that leases have had. A client chooses the id of a lease, and bytes lie below it under
 * names that are the same for each lease. A lease that used an id again would write over the bytes
 * of images.
 *
 * A lease marks its id after its record is made and before its first byte. So an id without a mark
 * has no bytes. A mark stays at least for as long as a blob has bytes of that lease. Then the
 * collector deletes it, if the store can delete on a condition. On other stores marks stay, as
 * tombstones do, and have the same size.
 *
 * Stores of older versions have bytes whose ids are not marked. `markAll` marks them and then makes
 * `keys.allUsedMarked`. Until that exists, `claim` also lists the bytes of the id.
 */
export class UsedIds {
  #areAllMarked = false

  constructor(private readonly store: ObjectStore) {}

  /** Marks the id of a lease whose record was just made; `false` if the id was used before. */
  async claim(id: string): Promise<boolean> {
    if ((await this.store.create(keys.usedId(id), tombstone())) === undefined) return false
    this.#areAllMarked ||= (await this.store.stat(keys.allUsedMarked)) !== undefined
    return this.#areAllMarked || (await this.store.list(keys.dataOf(id), { limit: 1 })).objects.length === 0
  }

  /**
   * Marks the ids of all bytes in the store. It is a migration (migrations.ts). The storage service
   * calls it at its start too, since a loss of power may have taken marks (mend-tail.ts).
   */
  async markAll(): Promise<void> {
    if (await this.store.stat(keys.allUsedMarked)) return
    const ids = new Set<string>()
    for await (const { key } of listAll(this.store, PREFIX.data)) {
      const id = leaseInKey(key)
      if (id !== undefined) ids.add(id)
    }
    const left = [...ids]
    while (left.length > 0) {
      await Promise.all(left.splice(0, AT_ONCE).map((id) => this.store.create(keys.usedId(id), tombstone())))
      failpoint('migrate.changed')
    }
    await this.store.create(keys.allUsedMarked, tombstone())
    failpoint('migrate.changed')
  }
}
