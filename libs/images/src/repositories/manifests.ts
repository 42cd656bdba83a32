import { StrataError } from '@strata/base'
import {
  documentSchema,
  hexOf,
  digestFromHex,
  MAX_JSON_BYTES,
  parseJson,
  type Digest,
  type Repository,
} from '@strata/oci'
import {
  CAS_ATTEMPTS,
  changedTooOften,
  keys,
  TOMBSTONE_BYTES,
  type BlobStore,
  type Leases,
  type LeaseRun,
  type ObjectStore,
  type RepositoryBlobs,
  type RepositoryNames,
} from '@strata/store'
import { isPlain, withoutDocuments, type Attached, type Image, type Kept, type RecordedManifest } from '../image.js'
import type { Names } from '../names.js'
import { readWhole, unitedRecord } from '../whole.js'
import { describe, mediaTypeOfPart, plainOf, readDocument } from './describe.js'

/** A manifest of a repository, as its record says. */
export interface StoredManifest {
  readonly digest: Digest
  readonly mediaType: string
  readonly size: number
  readonly attached?: Attached | undefined
}

/** What the layer of repositories works on. */
export interface RepositoryParts {
  readonly store: ObjectStore
  readonly names: Names
  readonly blobs: BlobStore
  readonly leases: Leases
  readonly repositoryBlobs: RepositoryBlobs
  readonly repositoryNames: RepositoryNames
}

/**
 * The manifests of repositories, by digest: images, indexes, artifacts. Their bytes are blobs and
 * are given back exactly.
 *
 * | operation | store calls |
 * | --- | --- |
 * | `stat` | 1; of a part of an index that was loaded, some 4 |
 * | `get` | 3 |
 * | `put` | some 12, and some 6 for each config, layer and child that the manifest names |
 * | `delete` | some 8, and some 6 for each tag that goes with it |
 * | `page` | 1 |
 *
 * **The record** `images/<repository>/_digests/<hex>` says that the repository has the manifest. It
 * is a reference: while it stands, the collector keeps everything that the manifest names.
 *
 * **What takes it away**
 * - `delete`, with all tags of the repository that stand for the manifest.
 * - A removal of its last tag in the repository by `rmi`, unless a client has put the manifest by
 *   its digest (`kept: 'digest'`). Such a record stays until somebody deletes it by its digest.
 *   (A registry's delete of a tag leaves the manifest.)
 * - A collection of images without a tag (`prune`), of images that are listed.
 *
 * The parts of an index that was loaded have no records. They are found by the index's record
 * (`NameMarks`, parent marks), and end with it.
 *
 * **Law**: a tag that stands has its manifest's record in its repository.
 * - A writer of a tag makes sure that the record exists, writes the tag, and then renews the
 *   record, which changes its ETag. If the record is gone by then, it makes both again.
 * - A call that ends the record reads it, *then* looks for tags (and ends them, if it is to do
 *   that), *then* retires the record if its ETag is still the same. Otherwise it begins again.
 *
 * So a record ends only if no tag was answered before. manifests-model.ts tries every interleaving.
 * If a process dies between tag and renewal, after another has ended the record, a tag is left
 * without it. The next collection makes the record again (`Images.tidyNames`).
 */
export class Manifests {
  constructor(private readonly parts: RepositoryParts) {}

  /**
   * Puts a manifest. The lease holds all that it refers to until the record is visible. `kept`: by
   * its digest, or for the sake of a tag that is set next.
   *
   * Config and layers must be in the repository (`RepositoryBlobs`). Children of an index and a
   * subject may be missing: they may come later.
   * @throws StrataError `layer_missing`, `not_an_image`, `unsupported`, `digest_mismatch`,
   * `limit_exceeded`, `upload_interrupted`
   */
  async put(
    repository: Repository,
    digest: Digest,
    bytes: Uint8Array,
    mediaType: string,
    run: LeaseRun,
    kept: Kept = 'digest',
  ): Promise<StoredManifest> {
    const { blobs, repositoryBlobs } = this.parts
    const document = readDocument(digest, bytes, mediaType)
    await this.#holdAll(document.blobs, digest, run)
    const [missing] = await repositoryBlobs.add(repository, document.blobs, run.lease, { onlyIfHad: true })
    if (missing !== undefined)
      throw new StrataError(
        'layer_missing',
        `manifest ${digest} needs blob ${missing}, which ${repository} does not have`,
      )
    await blobs.add(digest, bytes, run.lease)
    const plain = plainOf(document, kept)
    const isListed = kept === 'tag' && document.attached === undefined
    const record = isListed ? await describe(document, bytes, blobs, (child) => this.has(repository, child)) : plain
    // An index's record says which children are here. They may be deleted before it is visible.
    if (record.whole) await this.#holdAll(await this.blobsOf(record), digest, run)
    await this.keep(repository, record, run)
    return stored(plain)
  }

  /** @throws StrataError `corrupt` if its record is damaged */
  async stat(repository: Repository, digest: Digest): Promise<StoredManifest | undefined> {
    const { names, blobs } = this.parts
    const record = await names.read(keys.imageDigest(repository, digest))
    if (record) return stored(record)
    if (!(await this.#isPart(repository, digest))) return undefined
    const bytes = await blobs.read(digest, MAX_JSON_BYTES)
    return { digest, mediaType: mediaTypeOfPart(bytes, digest), size: bytes.length }
  }

  async has(repository: Repository, digest: Digest): Promise<boolean> {
    if (await this.parts.names.read(keys.imageDigest(repository, digest))) return true
    return this.#isPart(repository, digest)
  }

  /** Whether it is there as a part of an index that was loaded. */
  async #isPart(repository: Repository, digest: Digest): Promise<boolean> {
    for await (const _ of this.parts.names.parentsOf(repository, digest)) return true
    return false
  }

  /** @throws StrataError `corrupt` if its record is damaged, or its bytes are not what was put */
  async get(
    repository: Repository,
    digest: Digest,
  ): Promise<(StoredManifest & { readonly bytes: Buffer }) | undefined> {
    const found = await this.stat(repository, digest)
    return found && { ...found, bytes: await this.parts.blobs.read(digest, MAX_JSON_BYTES) }
  }

  /**
   * Takes the manifest and all of its tags away from the repository. `false`: it is not there.
   * @throws StrataError `image_in_use` if it is there only as a part of an index that was loaded
   */
  async delete(repository: Repository, digest: Digest): Promise<boolean> {
    const { names } = this.parts
    const key = keys.imageDigest(repository, digest)
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const entry = await names.look(key)
      if (!entry) {
        for await (const parent of names.parentsOf(repository, digest))
          throw new StrataError('image_in_use', `manifest ${digest} is part of the index ${parent}: delete that first`)
        return attempt > 0
      }
      await this.#retireTags(repository, digest)
      if (await names.retire(entry)) return true
    }
    throw changedTooOften(key)
  }

  /** At most `limit` digests behind `after`, in their order; `next` if more may follow. */
  async page(
    repository: Repository,
    limit: number,
    after?: Digest,
  ): Promise<{ readonly digests: Digest[]; readonly next?: Digest }> {
    const prefix = keys.manifestsOf(repository)
    const { names: found, ...rest } = await pageOf(this.parts.store, prefix, limit, after && hexOf(after))
    return {
      digests: found.map(digestFromHex),
      ...(rest.next === undefined ? {} : { next: digestFromHex(rest.next) }),
    }
  }

  /**
   * Makes sure that the repository has the record, with everything that any put has said of the
   * manifest. (Without a repository: that of images that never had a name.) The lease holds
   * everything that the manifest refers to.
   */
  async keep(repository: Repository | undefined, record: RecordedManifest, run: LeaseRun): Promise<void> {
    const { names, leases, repositoryNames } = this.parts
    const key = keys.imageDigest(repository, record.digest)
    if (repository !== undefined) await repositoryNames.add(repository)
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const { before, found } = await names.findToWrite(key)
      const wanted = before ? merged(before, record) : record
      if (wanted !== before) {
        // After the read of the record, not before (`Leases`).
        await leases.announce(run, key)
        if (!(await names.write(key, wanted, found))) continue
      }
      if (repository !== undefined) await repositoryNames.add(repository)
      return
    }
    throw changedTooOften(key)
  }

  /**
   * Makes the record of a manifest again whose tag is moved, if the record does not exist. `true`:
   * it was made. If the tag then turns out to be changed already, the caller takes it back
   * (`Names.retireUntagged`): the manifest may have been removed.
   */
  async keepMoved(repository: Repository, record: RecordedManifest, run: LeaseRun): Promise<boolean> {
    const { names, repositoryBlobs } = this.parts
    if (await names.look(keys.imageDigest(repository, record.digest))) return false
    try {
      const digests = await this.blobsOf(record)
      await this.#holdAll(digests, record.digest, run)
      await repositoryBlobs.add(repository, withoutDocuments(record, digests), run.lease)
    } catch (error) {
      // A manifest that lacks blobs gets no record.
      if (error instanceof StrataError && ['not_found', 'corrupt', 'layer_missing'].includes(error.code)) return false
      throw error
    }
    await this.keep(repository, isPlain(record) ? { ...record, kept: 'tag' } : record, run)
    return true
  }

  /** All that a manifest refers to, and itself. @throws StrataError `not_found`, `corrupt` */
  async blobsOf(record: RecordedManifest): Promise<Digest[]> {
    const { blobs } = this.parts
    const { digest } = record
    if (record.whole) {
      const { documents, blobs: others, layers } = await readWhole(record, blobs)
      return [digest, ...[...documents, ...others, ...layers].map((part) => part.digest)]
    }
    const document = parseJson(
      documentSchema,
      await blobs.read(digest, MAX_JSON_BYTES),
      `manifest ${digest}`,
      'corrupt',
    )
    return document.manifests === undefined
      ? [digest, document.config.digest, ...document.layers.map((layer) => layer.digest)]
      : [digest]
  }

  /** What a tag that stands for the manifest carries. `undefined`: the repository lacks it. */
  async tagged(repository: Repository, digest: Digest): Promise<RecordedManifest | undefined> {
    const { names, blobs } = this.parts
    const record = await names.read(keys.imageDigest(repository, digest))
    if (record && !isPlain(record)) return record
    const found = await this.get(repository, digest)
    return (
      found &&
      describe(readDocument(digest, found.bytes, found.mediaType), found.bytes, blobs, (child) =>
        this.has(repository, child),
      )
    )
  }

  async #retireTags(repository: Repository, digest: Digest): Promise<void> {
    const { names } = this.parts
    for await (const found of names.tagsIn(repository, digest)) {
      let tag: Awaited<ReturnType<Names['look']>> = found
      while (tag && !('damage' in tag) && digestIn(tag) === digest && !(await names.retire(tag)))
        tag = await names.look(found.key)
    }
  }

  async #holdAll(digests: readonly Digest[], manifest: Digest, { lease }: LeaseRun): Promise<void> {
    for (const digest of new Set(digests))
      if (!(await this.parts.blobs.hold(digest, lease)))
        throw new StrataError('layer_missing', `manifest ${manifest} needs blob ${digest}, which is not in the store`)
  }
}

/** Names below a prefix, in their order: at most `limit` behind `after`. Reads no record. */
export async function pageOf(
  store: ObjectStore,
  prefix: string,
  limit: number,
  after: string | undefined,
): Promise<{ readonly names: string[]; readonly next?: string }> {
  const names: string[] = []
  let from = after === undefined ? undefined : `${prefix}${after}`
  for (;;) {
    const page = await store.list(prefix, {
      limit: Math.min(limit + 1 - names.length, 1_000),
      ...(from === undefined ? {} : { after: from }),
    })
    for (const { key, size } of page.objects) if (size !== TOMBSTONE_BYTES) names.push(key.slice(prefix.length))
    if (names.length > limit) return { names: names.slice(0, limit), next: names[limit - 1]! }
    if (page.next === undefined) return { names }
    from = page.next
  }
}

function digestIn(entry: { readonly image: Image } | { readonly manifest: RecordedManifest }): Digest {
  return 'image' in entry ? entry.image.digest : entry.manifest.digest
}

function stored(record: RecordedManifest): StoredManifest {
  const { digest, mediaType, manifestSize: size } = record
  return { digest, mediaType, size, ...(isPlain(record) && record.attached ? { attached: record.attached } : {}) }
}

/** Joins what two puts say of one manifest. Gives `before` itself if the other adds nothing. */
function merged(before: RecordedManifest, record: RecordedManifest): RecordedManifest {
  if (!isPlain(before)) {
    if (!isPlain(record)) return unitedRecord(before, record)
    return record.kept === 'tag' ? before : withParts(record, before.whole)
  }
  if (before.kept === 'digest') return withParts(before, record.whole)
  if (!isPlain(record)) return before.attached ? before : record
  return record.kept === 'digest' ? record : before
}

function withParts(record: RecordedManifest, whole: Image['whole']): RecordedManifest {
  const known = record.whole?.parts ?? []
  const parts = new Map([...known, ...(whole?.parts ?? [])].map((part) => [part.digest, part]))
  return !whole || parts.size === known.length
    ? record
    : { ...record, whole: { manifest: whole.manifest, parts: [...parts.values()] } }
}
