import { failpoint } from '@strata/base'
import { z } from 'zod'
import { keys, PREFIX, leaseInKey } from '../keys.js'
import { listAll, type ObjectStore } from '../objects/object-store.js'
import { Records, tombstone } from '../records.js'

/** How many marks are made at the same time in a store of an older version. */
const AT_ONCE = 16

/** The value of a mark. A mark without a value means that the lease has the id of its request. */
const markSchema = z.object({ lease: z.string().max(64) })

/** The part of a lease's record from which its mark is made. */
const leaseSchema = z.object({ job: z.object({ id: z.string() }) })

/**
 * Records which requests have had a lease: each id that a client chose has a mark that names the
 * lease. The client may send the request again after all other records of it are gone. The second
 * request is refused, since the lease of the first may be under way.
 *
 * **A mark is for an id that somebody can send again.** A lease that a service makes for itself (an
 * upload of the registry, a hold, the setting of a name) has no request but its own fresh id, and
 * no mark: nobody makes a second lease of it. upload-model.ts has no marks, and loses nothing.
 *
 * No bytes lie below the id of a request: the id of a lease is fresh (`Leases`). In older versions
 * a lease had the id of its request, and bytes of that time lie below it.
 *
 * A lease marks its request after its own record is made and before its first byte. If two leases
 * are made for one request, the one that the mark names goes on. A mark stays at least as long as
 * its lease lives, and as long as a blob has bytes of that lease. Then the collector deletes it, if
 * the store can delete on a condition. On other stores marks stay, as tombstones do.
 *
 * Stores of older versions have bytes whose ids are not marked, and a loss of power may take marks.
 * `markAll` makes them and then makes `keys.allUsedMarked`. Until that exists, `claim` also lists
 * the bytes below the id.
 */
export class UsedIds {
  readonly #marks: Records<z.infer<typeof markSchema>>
  #areAllMarked = false

  constructor(private readonly store: ObjectStore) {
    this.#marks = new Records(store, markSchema, 'the mark of request')
  }

  /** Marks the request of a lease whose record was just made; `false` if its id was used before. */
  async claim(request: string, lease: string): Promise<boolean> {
    if (!(await this.#mark(request, lease))) return false
    this.#areAllMarked ||= (await this.store.stat(keys.allUsedMarked)) !== undefined
    return this.#areAllMarked || (await this.store.list(keys.dataOf(request), { limit: 1 })).objects.length === 0
  }

  /** The lease that a mark names. `undefined`: there is no mark, or it names none. */
  async leaseOf(request: string): Promise<string | undefined> {
    return (await this.#marks.look(keys.usedId(request)))?.value?.lease
  }

  /**
   * Marks the requests of all leases, and the ids of all bytes in the store. It is a migration
   * (migrations.ts). The storage service calls it at its start too, since a loss of power may have
   * taken marks (mend-tail.ts).
   */
  async markAll(): Promise<void> {
    if (await this.store.stat(keys.allUsedMarked)) return
    /** The leases, by the ids to be marked. */
    const ids = new Map<string, string>()
    for await (const { key } of listAll(this.store, PREFIX.data)) {
      const id = leaseInKey(key)
      if (id !== undefined) ids.set(id, id)
    }
    const leases = new Records(this.store, leaseSchema, 'the record of upload')
    for await (const { key, value } of leases.list(PREFIX.leases, { onDamaged: () => undefined })) {
      const id = leaseInKey(key)
      if (id !== undefined) ids.set(value.job.id, id)
    }
    const left = [...ids]
    while (left.length > 0) {
      await Promise.all(left.splice(0, AT_ONCE).map(([request, lease]) => this.#mark(request, lease)))
      failpoint('migrate.changed')
    }
    await this.store.create(keys.allUsedMarked, tombstone())
    failpoint('migrate.changed')
  }

  /** `false`: there is a mark. */
  async #mark(request: string, lease: string): Promise<boolean> {
    if (request !== lease) return (await this.#marks.write(keys.usedId(request), { lease }, undefined)) !== undefined
    return (await this.store.create(keys.usedId(request), tombstone())) !== undefined
  }
}
