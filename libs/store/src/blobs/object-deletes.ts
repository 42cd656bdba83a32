import { atMost, failpoint, StrataError } from '@strata/base'
import type { ObjectStore } from '../objects/object-store.js'

/** How many objects are deleted by one call. */
export const DELETED_AT_ONCE = 500
/** How many are deleted at the same time, each by a call of its own, if a call for many failed. */
const SINGLY_AT_ONCE = 16
/** So many objects may stay. With one more the store itself is what fails. */
const MAX_UNDELETED = 100

/**
 * Deletes objects that no record names. An object that the store does not delete now stays, and
 * the rest goes: MinIO deletes no object that it is sending, so a client that reads slowly would
 * end every collection. The next collection finds what stayed as data without a record.
 *
 * The store is asked whether the object is there after a delete of it alone has failed. So a store
 * that is away still ends the collection.
 */
export class ObjectDeletes {
  readonly #undeleted = new Set<string>()

  constructor(private readonly store: ObjectStore) {}

  /** Keys of the objects that stayed. */
  get undeleted(): ReadonlySet<string> {
    return this.#undeleted
  }

  /**
   * @throws StrataError `store_unavailable` if the store is away, or more than `MAX_UNDELETED` stay
   */
  async delete(keys: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    for (let at = 0; at < keys.length; at += DELETED_AT_ONCE) {
      signal?.throwIfAborted()
      await this.#deleteThese(keys.slice(at, at + DELETED_AT_ONCE), signal)
      failpoint('collect.bytes-deleted')
    }
  }

  async #deleteThese(keys: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.store.delete(keys)
    } catch (error) {
      if (!isUnavailable(error)) throw error
      if (keys.length === 1) return this.#leave(keys[0]!, error)
      await atMost(SINGLY_AT_ONCE, keys, async (key) => {
        signal?.throwIfAborted()
        await this.#deleteThese([key], signal)
      })
    }
  }

  async #leave(key: string, error: unknown): Promise<void> {
    if (!(await this.store.stat(key))) return
    if (this.#undeleted.size >= MAX_UNDELETED) throw error
    this.#undeleted.add(key)
  }
}

function isUnavailable(error: unknown): boolean {
  return error instanceof StrataError && error.code === 'store_unavailable'
}
