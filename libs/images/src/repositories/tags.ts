import { failpoint, StrataError } from '@strata/base'
import type { Digest, Repository, Tag } from '@strata/oci'
import { CAS_ATTEMPTS, changedTooOften, keys, type LeaseRun } from '@strata/store'
import type { Deprecation } from '../deprecation.js'
import type { RecordedManifest } from '../image.js'
import { manifestIn } from '../name-entry.js'
import { underLease } from '../under-lease.js'
import { partsOf } from '../whole.js'
import { mergedTags } from './merge.js'
import type { KeptParts, Manifests, PreparedManifest, StoredManifest } from './manifests.js'
import { pageOf } from './page.js'
import type { RepositoryParts } from './repository-parts.js'

/** What a tag stands for. */
export interface StoredTag {
  readonly digest: Digest
  readonly mediaType: string
  readonly size: number
  readonly deprecated?: Deprecation | undefined
}

/**
 * The tags of repositories. A tag of an image that can be launched is a name of that image
 * (`Images`): there is one record for both, `images/<repository>/_tags/<tag>`.
 *
 * `get` is one store call, a page is one. `put`, `set` and `delete` are a number of calls that
 * depends on the manifest only.
 */
export class Tags {
  constructor(
    private readonly parts: RepositoryParts,
    private readonly manifests: Manifests,
  ) {}

  /** @throws StrataError `corrupt` if its record is damaged */
  async get(repository: Repository, tag: Tag): Promise<StoredTag | undefined> {
    const record = await this.parts.names.read(keys.tag(repository, tag))
    if (!record) return undefined
    const { digest, mediaType, manifestSize: size, deprecated } = record
    return { digest, mediaType, size, ...(deprecated && { deprecated }) }
  }

  /**
   * Points the tag at a manifest of the repository. The manifest that had the tag stays in the
   * repository. Holds for the lease what the manifest refers to.
   * @throws StrataError `not_found` if the repository has no such manifest; `layer_missing`,
   * `upload_interrupted`
   */
  async set(repository: Repository, tag: Tag, digest: Digest, run: LeaseRun): Promise<void> {
    const found = await this.manifests.tagged(repository, digest)
    if (!found) throw new StrataError('not_found', `${repository} has no manifest ${digest}`)
    const { tagged, lacks } = found
    await this.manifests.holdNamed(tagged, run)
    await this.#point(repository, tag, tagged, run, { record: tagged, lacks })
  }

  /**
   * Puts a manifest and points the tag at it. If another call removes the manifest's other tags, or
   * prunes images without a tag, at the same time, this call still has its full effect.
   * @throws as `Manifests.put`
   */
  async put(
    repository: Repository,
    tag: Tag,
    put: { readonly digest: Digest; readonly bytes: Uint8Array; readonly mediaType: string },
    run: LeaseRun,
  ): Promise<StoredManifest> {
    return this.putAll(repository, [tag], put, run)
  }

  /** The same for several tags. The manifest is read, and all of it held, once. */
  async putAll(
    repository: Repository,
    tags: readonly Tag[],
    { digest, bytes, mediaType }: { readonly digest: Digest; readonly bytes: Uint8Array; readonly mediaType: string },
    run: LeaseRun,
  ): Promise<StoredManifest> {
    const made = await this.manifests.prepare(repository, digest, bytes, mediaType, run, 'tag')
    for (const tag of tags) await this.#point(repository, tag, made.tagged, run, made)
    return made.manifest
  }

  /**
   * Removes the tag and leaves its manifest, as registries do; `false` if it does not exist. (`rmi`
   * removes the manifest with its last tag: `Images.remove`.)
   */
  async delete(repository: Repository, tag: Tag): Promise<boolean> {
    const { names, leases } = this.parts
    const key = keys.tag(repository, tag)
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const entry = await names.look(key)
      if (!entry) return false
      const record = 'damage' in entry ? undefined : 'image' in entry ? entry.image : entry.manifest
      const isMade =
        record !== undefined &&
        !(await this.manifests.has(repository, record.digest)) &&
        (await underLease(leases, (run) => this.manifests.keepMoved(repository, record, run)))
      if (await names.retire(entry)) return true
      if (isMade) await names.retireUntagged(repository, record.digest)
    }
    throw changedTooOften(key)
  }

  /** At most `limit` tags behind `last`, in the order of their bytes; `next` if more may follow. */
  async page(
    repository: Repository,
    limit: number,
    last?: string,
  ): Promise<{ readonly tags: readonly Tag[]; readonly next?: Tag }> {
    const { names, next } = await pageOf(this.parts.store, keys.tagsOf(repository), limit, last)
    return { tags: names as Tag[], ...(next === undefined ? {} : { next: next as Tag }) }
  }

  /**
   * Points a tag at a manifest whose record is at hand, by the law of `Manifests`. The lease holds
   * what it refers to. A run that was superseded sets no tag any more (`Leases`).
   */
  async point(
    repository: Repository,
    tag: Tag,
    record: RecordedManifest,
    run: LeaseRun,
    parts?: KeptParts,
  ): Promise<void> {
    await this.#point(repository, tag, record, run, { record, ...parts })
  }

  /** `kept`: what the record of the manifest must carry. */
  async #point(
    repository: Repository,
    tag: Tag,
    record: RecordedManifest,
    run: LeaseRun,
    kept: Pick<PreparedManifest, 'record'> & KeptParts,
  ): Promise<void> {
    const { names, leases } = this.parts
    const key = keys.tag(repository, tag)
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      await this.manifests.keep(repository, kept.record, run, kept)
      const { before, found } = await names.findToWrite(key)
      const isSame = before?.digest === record.digest
      const wanted = isSame ? mergedTags(before, record) : record
      if (wanted === before) return
      const isMade = before !== undefined && !isSame && (await this.manifests.keepMoved(repository, before, run))
      // After the read of the tag, not before (`Leases`).
      await leases.announce(run, key)
      if (!(await names.write(key, wanted, found))) {
        if (isMade) await names.retireUntagged(repository, before.digest)
        continue
      }
      failpoint('load.name-set')
      const renewed = await names.renew(keys.imageDigest(repository, record.digest))
      if (!renewed) continue
      if (renewed.value) {
        const has = new Set(partsOf(manifestIn(renewed.value)))
        const gone = partsOf(record).filter((part) => !has.has(part))
        await this.manifests.takeFromTag(key, record.digest, gone)
      }
      // What an index lacked when it was looked at may have come since, before the tag was seen.
      return this.manifests.complete(repository, record.digest, kept.lacks ?? [], run)
    }
    throw changedTooOften(key)
  }
}
