import type { Repository } from '@strata/oci'
import { BlobStore, Leases, RepositoryBlobs, RepositoryNames, type ObjectStore } from '@strata/store'
import { Names } from '../names.js'
import { Manifests, type RepositoryParts } from './manifests.js'
import { Referrers } from './referrers.js'
import { Tags } from './tags.js'

/**
 * What a registry serves: repositories with manifests, tags, referrers and blobs. `Images` is a
 * view on the same records: what is put here can be launched, what was loaded is here.
 *
 * Every operation makes a number of store calls that does not depend on what else is stored; each
 * class says how many. Lists are pages of ordered keys.
 *
 * ```ts
 * const repositories = new Repositories(store)
 * const run = await leases.create(id, { job: { kind: 'push', id }, request: {} })
 * await blobs.commit(layer, proven, id)
 * await repositories.blobs.add(app, [layer, config], id)
 * await repositories.manifests.put(app, digest, bytes, MEDIA.manifest, run, 'tag')
 * await repositories.tags.set(app, tag, digest, run)
 * await leases.endBy(run, 'done')
 * ```
 */
export class Repositories {
  readonly manifests: Manifests
  readonly tags: Tags
  readonly referrers: Referrers
  readonly blobs: RepositoryBlobs
  readonly #names: RepositoryNames

  constructor(store: ObjectStore, names = new Names(store)) {
    this.blobs = new RepositoryBlobs(store)
    this.#names = new RepositoryNames(store)
    const parts: RepositoryParts = {
      store,
      names,
      blobs: new BlobStore(store),
      leases: new Leases(store),
      repositoryBlobs: this.blobs,
      repositoryNames: this.#names,
    }
    this.manifests = new Manifests(parts)
    this.tags = new Tags(parts, this.manifests)
    this.referrers = new Referrers(parts)
  }

  /** The catalog: at most `limit` repositories behind `after`; `next` if more may follow. */
  async page(
    limit: number,
    after?: Repository,
  ): Promise<{ readonly repositories: readonly Repository[]; readonly next?: Repository }> {
    return this.#names.page(limit, after)
  }
}
