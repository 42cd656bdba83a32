import { StrataError } from '@strata/base'
import type { Digest, Repository } from '@strata/oci'
import { BlobStore, Leases, RepositoryBlobs, RepositoryNames, type ObjectStore } from '@strata/store'
import { withoutDocuments } from '../image.js'
import { Names } from '../names.js'
import { Manifests } from './manifests.js'
import { MAX_PAGE } from './page.js'
import { OldTags } from './old-tags.js'
import { Referrers } from './referrers.js'
import type { RepositoryParts } from './repository-parts.js'
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
 * const run = await leases.create(id, { job: { kind: 'tag', id }, request: {} })
 * await blobs.commit(layer, proven, id)
 * await repositories.blobs.add(app, [layer, config], id)
 * await repositories.tags.put(app, tag, { digest, bytes, mediaType: MEDIA.manifest }, run)
 * await leases.endBy(run, 'done')
 * ```
 */
export class Repositories {
  readonly manifests: Manifests
  readonly tags: Tags
  readonly referrers: Referrers
  readonly blobs: RepositoryBlobs
  readonly #names: RepositoryNames
  readonly #oldTags: OldTags

  /**
   * `takesSparse`: manifests are put whose layers are not all in their repository. Otherwise only
   * those layers may be missing whose bytes are elsewhere.
   */
  constructor(
    store: ObjectStore,
    {
      names = new Names(store),
      oldTags = new OldTags(store, names),
      takesSparse = false,
    }: { readonly names?: Names; readonly oldTags?: OldTags; readonly takesSparse?: boolean } = {},
  ) {
    this.#oldTags = oldTags
    this.blobs = new RepositoryBlobs(store, (repository, digest) => this.#isHadByTag(repository, digest))
    this.#names = new RepositoryNames(store)
    const parts: RepositoryParts = {
      store,
      names,
      blobs: new BlobStore(store),
      leases: new Leases(store),
      repositoryBlobs: this.blobs,
      repositoryNames: this.#names,
      oldTags,
      takesSparse,
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
    const most = Math.min(limit, MAX_PAGE)
    if (await this.#oldTags.areAllKept()) return this.#names.page(most, after)
    return this.#oldTags.repositories(most, after)
  }

  /** What a repository has by its tags alone: see `OldTags`. */
  async #isHadByTag(repository: Repository, digest: Digest): Promise<boolean> {
    const seen = new Set<Digest>()
    for await (const record of this.#oldTags.of(repository)) {
      if (seen.has(record.digest)) continue
      seen.add(record.digest)
      const digests = await this.manifests.blobsOf(record).catch((error: unknown) => {
        if (error instanceof StrataError && ['not_found', 'corrupt', 'limit_exceeded'].includes(error.code)) return []
        throw error
      })
      if (withoutDocuments(record, digests).includes(digest)) return true
    }
    return false
  }
}
