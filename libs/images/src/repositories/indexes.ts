import type { StrataError } from '@strata/base'
import type { Digest, Repository } from '@strata/oci'
import { beforeAttempt, CAS_ATTEMPTS, changedTooOften, keys, type LeaseRun } from '@strata/store'
import { MAX_LACKS, recordOf, type RecordedManifest } from '../image.js'
import { partsOf, withoutPart } from '../whole.js'
import { mergedRecords, mergedTags } from './merge.js'
import type { RepositoryParts } from './repository-parts.js'
import { isOfOneManifest } from './stops.js'

/** How long a prune does not try again to tell an index that could not be told. */
const UNTOLD_MS = 60_000
/** How many of those are remembered. */
const MOST_UNTOLD = 1_000

/**
 * Gives what an index's record and its tags must carry, by what the repository has now.
 * `undefined`: there is no such index.
 */
export type DescribeIndex = (
  repository: Repository,
  index: Digest,
  run: LeaseRun,
) => Promise<
  | {
      readonly record: RecordedManifest
      readonly tagged: RecordedManifest
      readonly lacks?: readonly Digest[] | undefined
    }
  | undefined
>

/**
 * Keeps the records of indexes up to date with what their repository has. An index's entry by
 * digest and its tags say which children the repository has (`whole`). The entry by digest also
 * says which ones it lacks (`lacks`).
 *
 * **A child that comes** makes an index an image, or gives the image one platform more. **A child
 * that is deleted** is taken out of the index's records, so that nothing finds it any more. One
 * whose own record ends for want of a tag stays a part: the index's record keeps it.
 *
 * **Law**: after the put of a child has ended, no index has a record that lacks the child.
 * - A writer of an index makes its record, *then* looks whether the repository has what the record
 *   lacks.
 * - A writer of a child makes its record, *then* looks for indexes that lack it.
 *
 * One of the two finds the other. If a process dies in between, the next collection does it
 * (`Upkeep`).
 *
 * **Law**: only a delete of the child takes it out of a record, and it does not come back.
 * - `update` reads the record, *then* looks what is here, *then* writes if the record has not
 *   changed. It adds only what the record that it read has named, as a part or as a lack.
 * - `takeOut` comes behind the end of the child's own record. It changes every record that names
 *   the child, and looks again until none has it.
 *
 * So an `update` that has seen the child before its end fails to write, or `takeOut` finds it. It
 * must not look behind its write instead: a child that has only this index by then may have been
 * deleted, or may have lost its own record for want of a tag.
 *
 * A put of an index does the same (`Manifests.keep`). Its look came before its record, so the
 * record first names what was seen as a lack. A tag gets the parts that were seen, and loses those
 * that the index's record has no more when that is renewed (`Tags`). indexes-model.ts tries every
 * interleaving. If a process dies between tag and renewal, the tag may keep a part that was deleted
 * meanwhile.
 */
export class Indexes {
  /** The indexes that could not be told of a child, by their keys. */
  readonly #untold = new Map<string, { readonly error: StrataError; readonly at: number }>()

  constructor(
    private readonly parts: RepositoryParts,
    private readonly describe: DescribeIndex,
  ) {}

  /** Removes a manifest from the records of the repository's indexes. `false`: none had it. */
  async takeOut(repository: Repository, digest: Digest): Promise<boolean> {
    let isFound = false
    for (let pass = 0; pass < CAS_ATTEMPTS; pass++) {
      let isFoundNow = false
      for await (const index of this.parts.names.mayName(repository, digest))
        if (await this.#takeOutOf(repository, index, digest)) isFoundNow = true
      // Another index may have got it meanwhile from one that had it.
      if (!isFoundNow) return isFound
      isFound = true
    }
    throw changedTooOften(keys.imageDigest(repository, digest))
  }

  /**
   * Tells the indexes of the repository that lack a manifest that it has come. What is wrong with
   * an index is not the manifest's fault: the index still lacks it, and the next collection tries
   * again (`Upkeep`). Gives why one of them could not be told.
   *
   * `triesAgain`: also an index that could not be told less than `UNTOLD_MS` ago. Without it, a
   * prune looks at everything below such an index once, not once for each of its children.
   */
  async add(
    repository: Repository,
    child: Digest,
    run: LeaseRun,
    { triesAgain = true } = {},
  ): Promise<StrataError | undefined> {
    let untold: StrataError | undefined
    for await (const index of this.parts.names.lackedBy(repository, child)) {
      const key = keys.imageDigest(repository, index)
      const last = triesAgain ? undefined : this.#untold.get(key)
      if (last && performance.now() - last.at < UNTOLD_MS) {
        untold ??= last.error
        continue
      }
      try {
        await this.update(repository, index, run)
        this.#untold.delete(key)
      } catch (error) {
        if (!isOfOneManifest(error)) throw error
        untold ??= error
        if (this.#untold.size >= MOST_UNTOLD) this.#untold.clear()
        this.#untold.set(key, { error, at: performance.now() })
      }
    }
    return untold
  }

  /** Updates an index's tags and its entry by digest to what the repository has now. */
  async update(repository: Repository, index: Digest, run: LeaseRun): Promise<void> {
    const { names, leases } = this.parts
    const key = keys.imageDigest(repository, index)
    /** What tags got while the index's own record changed: it may not have that. */
    let told = new Set<Digest>()
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      // Each look reads everything below the index.
      await beforeAttempt(attempt)
      const entry = await names.look(key)
      if (!entry || 'damage' in entry) return
      const found = await this.describe(repository, index, run)
      if (!found) return
      const before = recordOf(entry)
      const had = new Set(partsOf(before))
      const parts = partsOf(found.record)
      const lacks = found.lacks ?? []
      const named = new Set([...had, ...(entry.lacks ?? [])])
      if (!parts.every((part) => named.has(part))) {
        // Whoever deletes one of them must find this index. Then all is looked at again.
        await leases.announce(run, key)
        const all = [...parts, ...lacks].filter((digest) => !had.has(digest))
        await names.write(key, before, entry.found, [...new Set(all)])
        continue
      }
      let areTagsChanged = false
      for await (const tag of names.tagsIn(repository, index))
        if (await this.#tell(tag.key, index, found.tagged, run)) areTagsChanged = true
      // The index's own record last: if this dies before, it still says what it lacks.
      const wanted = mergedRecords(before, found.record)
      const isSame = wanted === before && lacks.join() === (entry.lacks ?? []).join()
      // After the read of the record, not before (`Leases`).
      if (!isSame) await leases.announce(run, key)
      const isCurrent = isSame
        ? !areTagsChanged || (await names.look(key))?.found.etag === entry.found.etag
        : await names.write(key, wanted, entry.found, lacks)
      if (!isCurrent) {
        told = new Set([...told, ...parts])
        continue
      }
      const has = new Set(partsOf(wanted))
      const gone = [...told].filter((part) => !has.has(part))
      if (gone.length === 0) return
      for await (const tag of names.tagsIn(repository, index))
        for (const part of gone) await this.takeFromTag(tag.key, index, part)
      // One of them may have come again meanwhile.
      told = new Set()
    }
    throw changedTooOften(key)
  }

  /** Gives a tag of the index the parts that it has not. `true`: the tag was changed. */
  async #tell(key: string, index: Digest, tagged: RecordedManifest, run: LeaseRun): Promise<boolean> {
    const { names, leases } = this.parts
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const entry = await names.look(key)
      if (!entry || 'damage' in entry) return false
      const before = recordOf(entry)
      if (before.digest !== index) return false
      const wanted = mergedTags(before, tagged)
      if (wanted === before) return false
      // After the read of the record, not before (`Leases`).
      await leases.announce(run, key)
      if (await names.write(key, wanted, entry.found)) return true
    }
    throw changedTooOften(key)
  }

  /** `true`: the index had it. If its record names it at all, the record's ETag has changed. */
  async #takeOutOf(repository: Repository, index: Digest, part: Digest): Promise<boolean> {
    const { names, blobs } = this.parts
    const key = keys.imageDigest(repository, index)
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const entry = await names.find(key)
      if (!entry) return false
      const record = recordOf(entry)
      if (!partsOf(record).includes(part)) {
        if (!entry.lacks?.includes(part) || (await names.write(key, record, entry.found))) return false
        continue
      }
      // The index's own record last: if this dies before, the next call finds the part again.
      for await (const tag of names.tagsIn(repository, index)) await this.takeFromTag(tag.key, index, part)
      const lacks = [...new Set([part, ...(entry.lacks ?? [])])].slice(0, MAX_LACKS)
      if (await names.write(key, await withoutPart(record, part, blobs), entry.found, lacks)) return true
    }
    throw changedTooOften(key)
  }

  /** Takes a part out of a tag, if that stands for the index. */
  async takeFromTag(key: string, index: Digest, part: Digest): Promise<void> {
    const { names, blobs } = this.parts
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const entry = await names.look(key)
      if (!entry || 'damage' in entry) return
      const record = recordOf(entry)
      if (record.digest !== index || !partsOf(record).includes(part)) return
      if (await names.write(key, await withoutPart(record, part, blobs), entry.found)) return
    }
    throw changedTooOften(key)
  }
}
