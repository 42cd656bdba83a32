import { isIndexType, type Digest, type Repository } from '@strata/oci'
import { keys, Leases, RepositoryNames, tombstone, type LeaseRun, type ObjectStore } from '@strata/store'
import { recordOf, withoutDocuments } from '../image.js'
import { MarkUpkeep } from '../mark-upkeep.js'
import type { NameEntry, PlainEntry } from '../name-entry.js'
import type { Names } from '../names.js'
import { underLease } from '../under-lease.js'
import type { OldTags } from './old-tags.js'
import type { Repositories } from './repositories.js'
import { isOfOneManifest } from './stops.js'

/** How many names get their manifests' records under one lease. */
const KEPT_AT_A_TIME = 1_000

/**
 * Brings what older versions wrote, and what dead processes left, into the form that look-ups rely
 * on. Every name has its marks. Every tag has its manifest's record. Every repository with a
 * manifest has its own key, and the keys of its blobs. The record of an index names everything
 * below it.
 */
export class Upkeep {
  readonly #repositoryNames: RepositoryNames
  readonly #leases: Leases
  readonly #marks: MarkUpkeep

  constructor(
    private readonly store: ObjectStore,
    private readonly names: Names,
    private readonly repositories: Repositories,
    private readonly oldTags: OldTags,
  ) {
    this.#repositoryNames = new RepositoryNames(store)
    this.#leases = new Leases(store)
    this.#marks = new MarkUpkeep(store, names)
  }

  /**
   * All of it, once for each store and after a loss of power. For the start of the storage service.
   * It may die at any line: the note that all is done is written last.
   */
  async begin(): Promise<void> {
    await this.#marks.markAll()
    if (!(await this.oldTags.areAllKept())) {
      await this.#pass(() => true)
      await this.store.create(keys.allManifestsKept, tombstone())
    }
    if (await this.store.stat(keys.allIndexesFollowed)) return
    await this.#followIndexes()
    await this.store.create(keys.allIndexesFollowed, tombstone())
  }

  /**
   * Looks below each index once. An older version wrote records that name an index's own children
   * only, or none: the collector would not keep the rest.
   */
  async #followIndexes(): Promise<void> {
    const { manifests } = this.repositories
    for await (const entry of this.names.walk()) {
      if ('damage' in entry) continue
      const { repository, tag } = entry.name
      const { digest, mediaType } = recordOf(entry)
      if (repository === undefined || tag !== undefined || !isIndexType(mediaType)) continue
      await this.#forOne((run) => manifests.lookAgain(repository, digest, run))
    }
  }

  /** One manifest must not keep the service from its start, or the collection from its end. */
  async #forOne(work: (run: LeaseRun) => Promise<void>): Promise<void> {
    try {
      await underLease(this.#leases, work)
    } catch (error) {
      if (!isOfOneManifest(error)) throw error
    }
  }

  /** The same for what was written since `begin`. For the collection. */
  async tidy(): Promise<void> {
    // A service of an older version writes no marks, and for an entry by digest no keys of blobs.
    // Before the marks: afterwards nothing shows that it was such a service.
    await this.#marks.tidyMarks(async (entry) => {
      if (entry.name.tag === undefined) await this.#keep([entry])
    })
    await this.#pass((isKept) => !isKept)
  }

  /**
   * One pass over all names, repository by repository. Makes the manifests' records, and the keys
   * of repositories, for the names for which `wanted` is true. `wanted` gets whether the record
   * exists.
   */
  async #pass(wanted: (isKept: boolean) => boolean): Promise<void> {
    const listed = new Set<Repository>()
    for await (const { repository } of this.#repositoryNames.list()) listed.add(repository)
    let repository: Repository | undefined
    let manifests = new Set<string>()
    let lacking: Lacking[] = []
    let batch: (NameEntry | PlainEntry)[] = []
    for await (const entry of this.names.walk()) {
      if ('damage' in entry) continue
      const { name, key, lacks } = entry
      if (name.repository !== repository) {
        await this.#complete(repository, manifests, lacking)
        manifests = new Set()
        lacking = []
        repository = name.repository
        // A collector that has died may have left it without its key (`RepositoryNames`).
        if (repository !== undefined && !listed.has(repository)) await this.#repositoryNames.add(repository)
      }
      // A repository's manifests come before its tags.
      if (name.tag === undefined) manifests.add(key)
      if (lacks?.length) lacking.push({ index: recordOf(entry).digest, lacks })
      if (wanted(manifests.has(manifestKeyOf(entry) ?? key))) batch.push(entry)
      if (batch.length < KEPT_AT_A_TIME) continue
      await this.#keep(batch)
      batch = []
    }
    await this.#complete(repository, manifests, lacking)
    await this.#keep(batch)
  }

  /**
   * A process that put a child of an index may have died before it told the index (`Indexes`). An
   * index that cannot be read or written stays as it is.
   */
  async #complete(
    repository: Repository | undefined,
    manifests: ReadonlySet<string>,
    lacking: readonly Lacking[],
  ): Promise<void> {
    if (repository === undefined) return
    for (const { index, lacks } of lacking)
      if (lacks.some((child) => manifests.has(keys.imageDigest(repository, child))))
        await this.#forOne((run) => this.repositories.manifests.complete(repository, index, lacks, run))
  }

  /** What cannot be read stays as it is. */
  async #keep(entries: readonly (NameEntry | PlainEntry)[]): Promise<void> {
    if (entries.length === 0) return
    const { manifests, blobs } = this.repositories
    await underLease(this.#leases, async (run) => {
      for (const entry of entries) {
        const { repository, tag } = entry.name
        if (repository === undefined) continue
        const record = recordOf(entry)
        try {
          const digests = await manifests.holdNamed(record, run)
          await blobs.add(repository, withoutDocuments(record, digests), run.lease, { staysDeleted: true })
          await this.#repositoryNames.add(repository)
          // Looked at again: now that all is held, what the name stands for stays.
          const again = await this.names.look(entry.key)
          if (tag === undefined || !again || 'damage' in again || recordOf(again).digest !== record.digest) continue
          await manifests.keep(repository, record, run, { staysDeleted: true })
          const last = await this.names.look(entry.key)
          if (!last) await this.names.retireUntagged(repository, record.digest)
        } catch (error) {
          // One manifest that cannot be read, or whose record cannot be written, must not keep the
          // service from its start.
          if (!isOfOneManifest(error)) throw error
        }
      }
    })
  }
}

/** An index, and which of its children its repository did not have. */
interface Lacking {
  readonly index: Digest
  readonly lacks: readonly Digest[]
}

/** The key of the record of what a tag stands for. */
function manifestKeyOf(entry: NameEntry | PlainEntry): string | undefined {
  const { repository, tag } = entry.name
  return tag === undefined ? undefined : keys.imageDigest(repository, recordOf(entry).digest)
}
