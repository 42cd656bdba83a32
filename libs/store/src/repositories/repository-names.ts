import type { Repository } from '@strata/oci'
import { z } from 'zod'
import { keys, parseRepositoryKey, PREFIX } from '../keys.js'
import type { Etag, ObjectStore } from '../objects/object-store.js'
import { listAll } from '../objects/object-store.js'
import { pageOfRecords } from '../record-pages.js'
import { Records, TOMBSTONE_BYTES } from '../records.js'

const schema = z.object({})

/** A key as a list shows it. */
export interface ListedRepository {
  readonly repository: Repository
  readonly etag: Etag
  readonly size: number
}

/**
 * Which repositories there are: one key for each, so that a catalog is a page of ordered keys.
 *
 * **Law**: a repository that has a manifest has its key.
 * - A process that writes a manifest's record calls `add` before and after that.
 * - The collector lists the keys, *then* reads what the repositories have. It ends the keys of
 *   repositories that have nothing, and then looks at each of these once more: a repository that
 *   has a manifest by then gets its key again. Either the writer finds the key gone, or the
 *   collector finds the manifest.
 * - A collector that dies in between leaves a repository out of the catalog until the next
 *   collection. Nothing else reads these keys.
 *
 * The order is that of the names with `/` before all other characters, as registries list them.
 */
export class RepositoryNames {
  readonly #records: Records<object>

  constructor(private readonly store: ObjectStore) {
    this.#records = new Records(store, schema, 'the record of repository', () => 'it is written anew by itself')
  }

  async add(repository: Repository): Promise<void> {
    const key = keys.repository(repository)
    const seen = await this.#records.look(key)
    // If another process was quicker, the key exists, or the collector checks once more.
    if (!seen?.value) await this.#records.write(key, {}, seen)
  }

  /** At most `limit` repositories behind `after`; `next` if more may follow. */
  async page(
    limit: number,
    after?: Repository,
  ): Promise<{ readonly repositories: Repository[]; readonly next?: Repository }> {
    const from = after === undefined ? undefined : keys.repository(after)
    const { items, ...rest } = await pageOfRecords(this.store, PREFIX.repositories, parseRepositoryKey, limit, from)
    return { repositories: items, ...rest }
  }

  /** For the collector: all keys that are no tombstones. */
  async *list(): AsyncGenerator<ListedRepository> {
    for await (const { key, etag, size } of listAll(this.store, PREFIX.repositories)) {
      const repository = size === TOMBSTONE_BYTES ? undefined : parseRepositoryKey(key)
      if (repository) yield { repository, etag, size }
    }
  }

  /**
   * For the collector: ends the key of a repository that had nothing. `false`: the key has changed,
   * or the repository has something by now and gets its key again.
   */
  async retire(repository: Repository, etag: Etag): Promise<boolean> {
    if (!(await this.#records.retire(keys.repository(repository), { value: undefined, etag }))) return false
    if (!(await this.#hasContent(repository))) return true
    await this.add(repository)
    return false
  }

  async #hasContent(repository: Repository): Promise<boolean> {
    for (const prefix of [keys.tagsOf(repository), keys.manifestsOf(repository), keys.repositoryBlobsOf(repository)])
      for await (const { size } of listAll(this.store, prefix)) if (size !== TOMBSTONE_BYTES) return true
    return false
  }
}
