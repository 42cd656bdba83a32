import type { Digest, Repository } from '@strata/oci'
import { CAS_ATTEMPTS, changedTooOften, keys, type LeaseRun } from '@strata/store'
import { MAX_LACKS, recordOf, type RecordedManifest } from '../image.js'
import { withoutPart } from '../whole.js'
import { mergedRecords, mergedTags } from './merge.js'
import type { RepositoryParts } from './repository-parts.js'
import { isOfOneManifest } from './stops.js'

/** What an index's record and its tags are to carry, from what is in the repository now. */
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
 * The records of indexes follow what their repository has. Their names say which children are here
 * (`whole`), and the record also which are not (`lacks`).
 *
 * **A child that comes** makes an index an image, or gives the image one platform more. **A child
 * that is deleted** is taken out of the index's records, so that nothing finds it any more.
 *
 * **Law**: an index whose child was put has no record, behind that put, that lacks the child.
 * - A writer of an index makes its record, *then* looks whether what the record lacks is here.
 * - A writer of a child makes its record, *then* looks for indexes that lack it.
 *
 * One of the two finds the other. If a process dies in between, the next collection does it
 * (`Upkeep`).
 */
export class Indexes {
  constructor(
    private readonly parts: RepositoryParts,
    private readonly describe: DescribeIndex,
  ) {}

  /** Takes a manifest out of the indexes of the repository. `false`: none had it. */
  async takeOut(repository: Repository, digest: Digest): Promise<boolean> {
    const { names } = this.parts
    let isFound = false
    for await (const index of names.parentsOf(repository, digest)) {
      isFound = true
      // The index's own record last: if this dies before, the next call finds the part again.
      for await (const { key } of names.tagsIn(repository, index)) await this.#takeFrom(key, index, digest)
      await this.#takeFrom(keys.imageDigest(repository, index), index, digest)
    }
    return isFound
  }

  /**
   * Tells the indexes of the repository that lack a manifest that it has come. What is wrong with
   * an index is not the manifest's fault: the index still lacks it, and the next collection tries
   * again (`Upkeep`).
   */
  async add(repository: Repository, child: Digest, run: LeaseRun): Promise<void> {
    for await (const index of this.parts.names.lackedBy(repository, child))
      try {
        await this.update(repository, index, run)
      } catch (error) {
        if (!isOfOneManifest(error)) throw error
      }
  }

  /** Brings the names of an index to what its repository has. */
  async update(repository: Repository, index: Digest, run: LeaseRun): Promise<void> {
    const { names } = this.parts
    const found = await this.describe(repository, index, run)
    if (!found) return
    for await (const { key } of names.tagsIn(repository, index))
      await this.#change(key, index, (before) => mergedTags(before, found.tagged), run)
    // The index's own record last: if this dies before, it still says what it lacks.
    const key = keys.imageDigest(repository, index)
    const change = (before: RecordedManifest): RecordedManifest => mergedRecords(before, found.record)
    // A child that was deleted behind the look must not come back: who deleted it did not find it.
    for (const added of await this.#change(key, index, change, run, found.lacks ?? []))
      if (!(await this.#isHereWithout(repository, added, index))) await this.takeOut(repository, added)
  }

  /** Whether the repository has the manifest by anything but this index. */
  async #isHereWithout(repository: Repository, digest: Digest, index: Digest): Promise<boolean> {
    const { names, oldTags } = this.parts
    if (await names.look(keys.imageDigest(repository, digest))) return true
    for await (const _ of names.parentsOf(repository, digest, index)) return true
    return (await oldTags.find(repository, digest)) !== undefined
  }

  /** Gives the parts that the name has now and had not before. */
  async #change(
    key: string,
    index: Digest,
    change: (before: RecordedManifest) => RecordedManifest,
    run: LeaseRun,
    lacks?: readonly Digest[],
  ): Promise<Digest[]> {
    const { names, leases } = this.parts
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const entry = await names.look(key)
      if (!entry || 'damage' in entry) return []
      const before = recordOf(entry)
      if (before.digest !== index) return []
      const wanted = change(before)
      if (wanted === before && (lacks ?? []).join() === (entry.lacks ?? []).join()) return []
      // After the read of the record, not before (`Leases`).
      await leases.announce(run, key)
      if (!(await names.write(key, wanted, entry.found, lacks))) continue
      const had = new Set((before.whole?.parts ?? []).map(({ digest }) => digest))
      return (wanted.whole?.parts ?? []).flatMap(({ digest }) => (had.has(digest) ? [] : [digest]))
    }
    throw changedTooOften(key)
  }

  async #takeFrom(key: string, index: Digest, part: Digest): Promise<void> {
    const { names, blobs } = this.parts
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const entry = await names.look(key)
      if (!entry || 'damage' in entry) return
      const record = recordOf(entry)
      if (record.digest !== index || !record.whole?.parts.some(({ digest }) => digest === part)) return
      const lacks =
        entry.name.tag === undefined ? [...new Set([part, ...(entry.lacks ?? [])])].slice(0, MAX_LACKS) : undefined
      if (await names.write(key, await withoutPart(record, part, blobs), entry.found, lacks)) return
    }
    throw changedTooOften(key)
  }
}
