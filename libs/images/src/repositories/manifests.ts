import { atMost, Serial, StrataError } from '@strata/base'
import { hexOf, digestFromHex, MAX_JSON_BYTES, type Digest, type Repository } from '@strata/oci'
import { CAS_ATTEMPTS, changedTooOften, keys, type LeaseRun } from '@strata/store'
import type { Deprecation } from '../deprecation.js'
import { isPlain, recordOf, withoutDocuments, type Attached, type Kept, type RecordedManifest } from '../image.js'
import type { NameEntry, PlainEntry } from '../name-entry.js'
import type { Names } from '../names.js'
import { referencesOf } from '../references.js'
import { underLease } from '../under-lease.js'
import { partsOf, withoutParts } from '../whole.js'
import { lookBelow, type Sight } from './below.js'
import { describe, mediaTypeOfPart, plainOf, readDocument, sizesOf, type Document } from './describe.js'
import { Indexes } from './indexes.js'
import { holderOf, holdAll } from './manifest-holds.js'
import { mergedRecords, withParts } from './merge.js'
import { MAX_PAGE, pageOf } from './page.js'
import type { RepositoryParts } from './repository-parts.js'

/** Manifests that are asked for at the same time: some 4 small store calls each. */
const LOOKS_AT_ONCE = 16

/**
 * Layers that a manifest may lack, if it may lack any (`MayLack`). Whatever shows or counts the
 * image looks for each of them. An image that can be launched has no more layers (`IMAGE_LIMITS`).
 */
export const MAX_ABSENT_LAYERS = 500

/** A manifest of a repository, as its record says. */
export interface StoredManifest {
  readonly digest: Digest
  readonly mediaType: string
  readonly size: number
  readonly attached?: Attached | undefined
  readonly deprecated?: Deprecation | undefined
}

/** What the caller of `Manifests.keep` knows of the parts of an index. */
export interface KeptParts {
  /**
   * Of an index that was looked at: the children that the repository did not have then. Its other
   * parts are looked for again.
   */
  readonly lacks?: readonly Digest[] | undefined
  /** Nobody brings the parts: those that the index's record lacks stay away. */
  readonly staysDeleted?: boolean
}

/**
 * A manifest of which everything is held, and that no record shows yet: see `Manifests.prepare`.
 */
export interface PreparedManifest {
  readonly manifest: StoredManifest
  /** What its record must carry. */
  readonly record: RecordedManifest
  /** What a tag must carry. */
  readonly tagged: RecordedManifest
  /** Of an index: the children that the repository does not have. */
  readonly lacks?: readonly Digest[] | undefined
}

/**
 * The manifests of repositories, by digest: images, indexes, artifacts. Their bytes are blobs and
 * are given back exactly.
 *
 * | operation | store calls |
 * | --- | --- |
 * | `stat` | 1; of a part of an index without a record of its own, some 4 |
 * | `get` | 3 |
 * | `put` | some 12, and some 6 for each config and layer that the manifest names; of an index, some 8 for each manifest below it, and 4 for each config and layer that those name |
 * | `delete` | some 8, and some 6 for each tag that goes with it; of a part of an index, some 6 for each name of that, and its documents |
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
 * The parts of an index that was loaded have no records, and the children of one that was pushed
 * may lose theirs. They are found by the index's record (`NameMarks`, parent marks), and end with
 * it. `delete` of a part takes it out of all records of the indexes: the rest of the index stays.
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
  readonly #indexes: Indexes
  readonly #telling = new Serial()

  constructor(private readonly parts: RepositoryParts) {
    this.#indexes = new Indexes(parts, (repository, index, run) => this.#describeAgain(repository, index, run))
  }

  /**
   * Puts a manifest. The lease holds all that it refers to until the record is visible. `kept`: by
   * its digest, or for the sake of a tag that is set next.
   *
   * Config and layers must be in the repository (`RepositoryBlobs`). Layers whose bytes are
   * elsewhere may be missing, and so may all layers if the repositories take sparse images. They
   * may come later, and so may children of an index and a subject. An index leads to at most
   * `MAX_PARTS` manifests, those that are missing too.
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
    const { manifest, record, lacks } = await this.prepare(repository, digest, bytes, mediaType, run, kept)
    await this.keep(repository, record, run, { lacks })
    return manifest
  }

  /** All of `put` but the record that makes it visible. */
  async prepare(
    repository: Repository,
    digest: Digest,
    bytes: Uint8Array,
    mediaType: string,
    run: LeaseRun,
    kept: Kept,
  ): Promise<PreparedManifest> {
    const { blobs, repositoryBlobs } = this.parts
    const document = readDocument(digest, bytes, mediaType, this.parts.takesSparse)
    const said = sizesOf(document)
    // First whether the repository has them: what the store says of a blob, that it is there and
    // how long it is, is for the repositories that have it.
    const absent = new Set(await repositoryBlobs.add(repository, document.blobs, run.lease, { onlyIfHad: true }))
    const missing = [...absent].find((blob) => !document.mayLack.has(blob))
    if (missing !== undefined)
      throw new StrataError(
        'layer_missing',
        `manifest ${digest} needs blob ${missing}, which ${repository} does not have`,
      )
    if (absent.size > MAX_ABSENT_LAYERS)
      throw new StrataError(
        'limit_exceeded',
        `manifest ${digest} lacks ${absent.size} layers; the limit is ${MAX_ABSENT_LAYERS}: push its layers first`,
      )
    const sizes = new Map([...said].filter(([blob]) => !absent.has(blob)))
    await holdAll(blobs, document.blobs, digest, run, { sizes, mayLack: document.mayLack })
    await blobs.add(digest, bytes, run.lease)
    return this.#describe(repository, document, bytes, kept, run)
  }

  async #describe(
    repository: Repository,
    document: Document,
    bytes: Uint8Array,
    kept: Kept,
    run: LeaseRun,
  ): Promise<PreparedManifest> {
    const { attached, children } = document
    const plain = plainOf(document, kept)
    const isTagged = kept === 'tag' || children !== undefined
    // What is below is held as it is found: it may be deleted before the record is visible.
    const hold = holderOf(this.parts.blobs, run)
    const { tagged, lacks } = isTagged ? await this.#look(repository, document, bytes, hold) : { tagged: plain }
    return {
      manifest: stored(plain),
      // What has a subject is found by it, and is in no list of images.
      record: attached || kept === 'digest' ? withParts(plain, tagged.whole) : tagged,
      tagged,
      lacks,
    }
  }

  async #describeAgain(repository: Repository, index: Digest, run: LeaseRun): Promise<PreparedManifest | undefined> {
    const record = await this.#record(repository, index)
    if (!record) return undefined
    const bytes = await this.parts.blobs.read(index, MAX_JSON_BYTES)
    const document = readDocument(index, bytes, record.mediaType)
    return this.#describe(repository, document, bytes, isPlain(record) ? record.kept : 'tag', run)
  }

  /**
   * Ends a manifest's entry by digest as `Names.retireManifest` does, and leaves the manifest to
   * the indexes that name it. An index may not have been told of it: a process that put one of them
   * died before that (`Indexes`). It is told now, or the collector would take what it needs.
   * `false` also if one of them cannot be told: the entry stays until the next collection.
   */
  async retire(entry: NameEntry | PlainEntry): Promise<boolean> {
    const { repository } = entry.name
    if (repository !== undefined && !(await this.#tellIndexes(repository, recordOf(entry).digest))) return false
    return this.parts.names.retireManifest(entry)
  }

  /** As `Names.retireUntagged`, after the indexes that lack the manifest were updated. */
  async retireUntagged(repository: Repository, digest: Digest): Promise<void> {
    if (await this.#tellIndexes(repository, digest)) await this.parts.names.retireUntagged(repository, digest)
  }

  /**
   * One at a time: an index that is told of one child is told of all that have come, and each look
   * at what is below it reads all of them. `false`: an index could not be told, or there is no room
   * for that.
   */
  async #tellIndexes(repository: Repository, child: Digest): Promise<boolean> {
    const { names, leases } = this.parts
    if (!(await names.isLacked(repository, child))) return true
    return this.#telling.run(async () => {
      if (!(await names.isLacked(repository, child))) return true
      try {
        const untold = await underLease(leases, (run) =>
          this.#indexes.add(repository, child, run, { triesAgain: false }),
        )
        if (!untold) return true
        process.emitWarning(`${repository}@${child} stays: an index that names it cannot take it in: ${untold.message}`)
        return false
      } catch (error) {
        if (error instanceof StrataError && error.code === 'storage_full') return false
        throw error
      }
    })
  }

  /** Updates an index if one of these children, which it lacked, has come. */
  async complete(repository: Repository, index: Digest, lacks: readonly Digest[], run: LeaseRun): Promise<void> {
    const haveCome = await atMost(LOOKS_AT_ONCE, lacks, (child) => this.has(repository, child, index))
    if (haveCome.some(Boolean)) await this.#indexes.update(repository, index, run)
  }

  /** Updates the records of an index to what its repository has now. */
  async lookAgain(repository: Repository, index: Digest, run: LeaseRun): Promise<void> {
    await this.#indexes.update(repository, index, run)
  }

  /** @throws StrataError `corrupt` if its record is damaged */
  async stat(repository: Repository, digest: Digest): Promise<StoredManifest | undefined> {
    const record = await this.#record(repository, digest)
    if (record) return stored(record)
    if (!(await this.#isPart(repository, digest))) return undefined
    const bytes = await this.parts.blobs.read(digest, MAX_JSON_BYTES)
    return { digest, mediaType: mediaTypeOfPart(bytes, digest), size: bytes.length }
  }

  /**
   * Whether the repository has the manifest, by a record of its own or as a part of an index. The
   * record of the index `beside` is not read: that of a large index is large, and would be read for
   * each of its children.
   */
  async has(repository: Repository, digest: Digest, beside?: Digest): Promise<boolean> {
    return (await this.#record(repository, digest)) !== undefined || this.#isPart(repository, digest, beside)
  }

  async #record(repository: Repository, digest: Digest): Promise<RecordedManifest | undefined> {
    const { names, oldTags } = this.parts
    return (await names.read(keys.imageDigest(repository, digest))) ?? oldTags.find(repository, digest)
  }

  /** Whether the repository has it as a part of an index. */
  async #isPart(repository: Repository, digest: Digest, beside?: Digest): Promise<boolean> {
    const { names, oldTags } = this.parts
    for await (const _ of names.parentsOf(repository, digest, beside)) return true
    return oldTags.isPart(repository, digest)
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
   * Removes the manifest and all of its tags from the repository, and from the indexes there that
   * have it. `false`: the repository does not have it.
   */
  async delete(repository: Repository, digest: Digest): Promise<boolean> {
    const { names, oldTags } = this.parts
    const key = keys.imageDigest(repository, digest)
    let isFound = (await oldTags.find(repository, digest)) !== undefined
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const entry = await names.look(key)
      if (!entry) {
        if (isFound) await this.#retireTags(repository, digest)
        return (await this.#indexes.takeOut(repository, digest)) || isFound
      }
      isFound = true
      await this.#retireTags(repository, digest)
      if (!(await names.retire(entry))) continue
      await this.#indexes.takeOut(repository, digest)
      return true
    }
    throw changedTooOften(key)
  }

  /** At most `limit` digests behind `after`, in their order; `next` if more may follow. */
  async page(
    repository: Repository,
    limit: number,
    after?: Digest,
  ): Promise<{ readonly digests: Digest[]; readonly next?: Digest }> {
    const { oldTags } = this.parts
    if (!(await oldTags.areAllKept())) return oldTags.manifests(repository, Math.min(limit, MAX_PAGE), after)
    const prefix = keys.manifestsOf(repository)
    const { names: found, ...rest } = await pageOf(this.parts.store, prefix, limit, after && hexOf(after))
    return {
      digests: found.map(digestFromHex),
      ...(rest.next === undefined ? {} : { next: digestFromHex(rest.next) }),
    }
  }

  /**
   * Makes sure that the repository has the manifest's record, with everything that all puts have
   * said of it. (Without a repository: the record of an image that never had a name.) The lease
   * must hold everything that the manifest refers to.
   *
   * The parts of an index are those of `record`, but for what was deleted since the caller saw them
   * (`Indexes`).
   */
  async keep(
    repository: Repository | undefined,
    record: RecordedManifest,
    run: LeaseRun,
    { lacks, staysDeleted = false }: KeptParts = {},
  ): Promise<void> {
    const { names, leases, repositoryNames } = this.parts
    const { digest } = record
    const key = keys.imageDigest(repository, digest)
    if (repository !== undefined) await repositoryNames.add(repository)
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const { before, found } = await names.findToWrite(key)
      const had = new Set<Digest>(before && partsOf(before))
      const lacked = new Set<Digest>(found?.value?.lacks)
      const isDoubtful = (part: Digest): boolean =>
        !had.has(part) && (lacks !== undefined || (staysDeleted && lacked.has(part)))
      const doubtful = repository === undefined ? [] : partsOf(record).filter(isDoubtful)
      const areNamed = doubtful.every((part) => lacked.has(part))
      const areHere = areNamed && (repository === undefined || (await this.#hasAll(repository, doubtful, digest)))
      const sure = areHere ? record : withoutParts(record)
      const wanted = before ? mergedRecords(before, sure) : sure
      const lacking = areHere ? lacks : lacks && [...new Set([...doubtful, ...lacks])]
      const isNew = wanted !== before || (lacking !== undefined && lacking.join() !== [...lacked].join())
      if (isNew) {
        // After the read of the record, not before (`Leases`).
        await leases.announce(run, key)
        if (!(await names.write(key, wanted, found, lacking))) continue
      }
      // Whoever deletes one of them finds this index from now on.
      if (!areNamed) continue
      if (repository === undefined) return
      await repositoryNames.add(repository)
      // Also for a record that was there: its maker may have died before it updated the indexes.
      await this.#indexes.add(repository, digest, run)
      if (areHere) await this.complete(repository, digest, lacks ?? [], run)
      else await this.#indexes.update(repository, digest, run)
      return
    }
    throw changedTooOften(key)
  }

  /** Takes parts out of a tag of an index, because the index's own record has them no more. */
  async takeFromTag(key: string, index: Digest, parts: readonly Digest[]): Promise<void> {
    for (const part of parts) await this.#indexes.takeFromTag(key, index, part)
  }

  async #hasAll(repository: Repository, digests: readonly Digest[], beside: Digest): Promise<boolean> {
    const areHere = await atMost(LOOKS_AT_ONCE, digests, (digest) => this.has(repository, digest, beside))
    return areHere.every(Boolean)
  }

  /**
   * Makes the record of a manifest that is about to lose a tag, if the record does not exist.
   * `true`: it was made. If the caller then finds the tag changed already, it ends the record again
   * (`Names.retireUntagged`): the manifest may have been removed.
   */
  async keepMoved(repository: Repository, record: RecordedManifest, run: LeaseRun): Promise<boolean> {
    const { names, repositoryBlobs } = this.parts
    if (await names.look(keys.imageDigest(repository, record.digest))) return false
    try {
      const digests = await this.holdNamed(record, run)
      await repositoryBlobs.add(repository, withoutDocuments(record, digests), run.lease, { staysDeleted: true })
    } catch (error) {
      // A manifest that lacks blobs gets no record.
      const codes = ['not_found', 'corrupt', 'limit_exceeded', 'layer_missing']
      if (error instanceof StrataError && codes.includes(error.code)) return false
      throw error
    }
    await this.keep(repository, isPlain(record) ? { ...record, kept: 'tag' } : record, run, { staysDeleted: true })
    return true
  }

  /** All that a manifest refers to, and itself. @throws StrataError `not_found`, `corrupt` */
  async blobsOf(record: RecordedManifest): Promise<Digest[]> {
    const { blobs, unreadable } = await referencesOf(record, this.parts.blobs)
    if (unreadable) throw unreadable
    return [...blobs.keys()]
  }

  /**
   * Holds all that a manifest refers to, and itself, and gives what it held.
   * @throws StrataError `not_found`, `corrupt`, `layer_missing`
   */
  async holdNamed(record: RecordedManifest, run: LeaseRun): Promise<Digest[]> {
    const { takesSparse } = this.parts
    const { blobs, mayLack, unreadable } = await referencesOf(record, this.parts.blobs, takesSparse)
    if (unreadable) throw unreadable
    return holdAll(this.parts.blobs, [...blobs.keys()], record.digest, run, { mayLack })
  }

  /** What a tag that stands for the manifest carries. `undefined`: the repository lacks it. */
  async tagged(
    repository: Repository,
    digest: Digest,
  ): Promise<Pick<PreparedManifest, 'tagged' | 'lacks'> | undefined> {
    const { names, oldTags } = this.parts
    const entry = await names.find(keys.imageDigest(repository, digest))
    if (entry && 'image' in entry) return { tagged: entry.image, lacks: entry.lacks ?? (entry.image.whole && []) }
    const old = entry ? undefined : await oldTags.find(repository, digest)
    if (old && !isPlain(old)) return { tagged: old }
    const found = await this.get(repository, digest)
    return found && this.#look(repository, readDocument(digest, found.bytes, found.mediaType), found.bytes)
  }

  /** What a tag is to carry, by what the repository has now. */
  async #look(
    repository: Repository,
    document: Document,
    bytes: Uint8Array,
    hold: Sight['hold'] = () => Promise.resolve(true),
  ): Promise<Pick<PreparedManifest, 'tagged' | 'lacks'>> {
    const { blobs, names, takesSparse } = this.parts
    const { digest, children } = document
    const own = children && (await names.look(keys.imageDigest(repository, digest)))
    const parts = own && !('damage' in own) ? (recordOf(own).whole?.parts ?? []) : []
    const known = new Set(parts.map((part) => part.digest))
    const has = async (child: Digest): Promise<boolean> =>
      known.has(child) || (await this.has(repository, child, digest))
    const below = children && (await lookBelow(digest, children, { blobs, has, hold, takesSparse }))
    return { tagged: await describe(document, bytes, blobs, below), lacks: below?.lacks }
  }

  async #retireTags(repository: Repository, digest: Digest): Promise<void> {
    const { names } = this.parts
    for await (const found of names.tagsIn(repository, digest)) {
      let tag: Awaited<ReturnType<Names['look']>> = found
      while (tag && !('damage' in tag) && recordOf(tag).digest === digest && !(await names.retire(tag)))
        tag = await names.look(found.key)
    }
  }
}

function stored(record: RecordedManifest): StoredManifest {
  const { digest, mediaType, manifestSize: size, deprecated } = record
  const attached = isPlain(record) ? record.attached : undefined
  return { digest, mediaType, size, ...(attached && { attached }), ...(deprecated && { deprecated }) }
}
