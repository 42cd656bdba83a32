import { JointItems } from '@strata/base'
import type { Digest, Repository } from '@strata/oci'
import { z } from 'zod'
import { keys, parseRepositoryBlobKey, PREFIX } from '../keys.js'
import { interrupted, Leases } from '../leases/leases.js'
import type { Etag, ObjectStore } from '../objects/object-store.js'
import { CAS_ATTEMPTS, changedTooOften, Records } from '../records.js'

const schema = z.object({
  /** The leases that hold it. Ended leases may still be in the list; only live ones matter. */
  holders: z.array(z.string().max(64)),
  /** A client has deleted the blob in this repository. Holders keep such a key, not the blob. */
  deleted: z.literal(true).optional(),
})
type RepositoryBlob = z.infer<typeof schema>

/** A key as a list shows it. */
export interface ListedRepositoryBlob {
  readonly key: string
  readonly repository: Repository
  readonly digest: Digest
  readonly holders: readonly string[]
  readonly deleted: true | undefined
  readonly etag: Etag
  readonly size: number
}

/** See `RepositoryBlobs.add`. */
interface Rules {
  readonly onlyIfHad?: boolean
  readonly staysDeleted?: boolean
}

/** Blobs of one request that are looked at together. */
const AT_ONCE = 16

/**
 * Which blobs a repository has: one key per (repository, blob). A blob lies in the store once, and
 * each repository that has it has a key of its own. So a client of one repository can neither read
 * nor name a blob that only another repository has. (A mount without `from` is the exception:
 * `Uploads.mount`.)
 *
 * `has` is one store call. `add` and `delete` are two calls for each blob, and one for the lease.
 *
 * **A repository has a blob**
 * - for as long as a manifest of it refers to the blob, unless a client has deleted it there;
 * - before that, for as long as a lease that has added it lives: an upload, before its manifest.
 *
 * **A key is no reference.** The collector keeps no blob for the sake of a key. It deletes a key
 * that no manifest of the repository needs and no live lease holds. It does so by the protocol of
 * blobs (`BlobStore`, store-model.ts): it lists the keys with their ETags, *then* the live leases,
 * *then* reads what manifests refer to, and ends a key only if its ETag is still that of the list.
 * A process that puts a manifest adds its blobs for a lease that lives until the manifest is
 * visible.
 *
 * **A blob that a client has deleted** leaves its key, marked, until the collector ends that. A
 * manifest may still refer to the blob. If the manifest cannot be read, its repository's keys are
 * all that tells which blobs it may need. Only a client that brings the blob again, or mounts it,
 * takes the mark away. Whoever names a manifest that is there holds the key, and leaves the mark.
 *
 * A key may be without its blob: a process died. A caller that serves a blob reads the blob's
 * record next, which decides.
 */
export class RepositoryBlobs {
  readonly #records: Records<RepositoryBlob>
  readonly #leases: Leases
  readonly #holding = new JointItems<string, string, boolean>()

  /**
   * `isHadOtherwise` is called for a blob without a key: in a store of an older version, a
   * repository may have a blob without a key.
   */
  constructor(
    store: ObjectStore,
    private readonly isHadOtherwise: (repository: Repository, digest: Digest) => Promise<boolean> = () =>
      Promise.resolve(false),
  ) {
    this.#records = new Records(store, schema, 'the record of a repository’s blob', () => 'the blob counts as absent')
    this.#leases = new Leases(store)
  }

  async has(repository: Repository, digest: Digest): Promise<boolean> {
    return (await this.holders(repository, digest)) !== undefined
  }

  /**
   * The leases that hold the blob in the repository, ended ones too; `undefined`: the repository
   * does not have it.
   */
  async holders(repository: Repository, digest: Digest): Promise<readonly string[] | undefined> {
    const found = await this.#records.look(keys.repositoryBlob(repository, digest))
    if (found?.value) return found.value.deleted ? undefined : found.value.holders
    return (await this.isHadOtherwise(repository, digest)) ? [] : undefined
  }

  /**
   * Adds these blobs to the repository, held by the lease. With `onlyIfHad` (for a client that
   * names blobs without sending bytes), only those that the repository has already. With
   * `staysDeleted` (for a manifest that is there already), a blob that a client has deleted stays
   * deleted, and only its key is held. Returns the blobs that were not added.
   * @throws StrataError `upload_interrupted` if the lease has been ended
   */
  async add(repository: Repository, digests: Iterable<Digest>, lease: string, rules: Rules = {}): Promise<Digest[]> {
    const missing: Digest[] = []
    const left = [...new Set(digests)]
    while (left.length > 0)
      await Promise.all(
        left.splice(0, AT_ONCE).map(async (digest) => {
          if (!(await this.#hold(repository, digest, lease, rules))) missing.push(digest)
        }),
      )
    if (!(await this.#leases.get(lease))) interrupted(lease)
    return missing
  }

  /**
   * Removes the blob from the repository; its bytes stay. `false`: the repository did not have it.
   */
  async delete(repository: Repository, digest: Digest): Promise<boolean> {
    const key = keys.repositoryBlob(repository, digest)
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const seen = await this.#records.look(key)
      if (seen?.value?.deleted) return false
      const isThere = seen?.value !== undefined || seen?.damage !== undefined
      if (!isThere && !(await this.isHadOtherwise(repository, digest))) return false
      if (await this.#records.write(key, { holders: [], deleted: true }, seen)) return true
    }
    throw changedTooOften(key)
  }

  /** For the collector: all keys. A damaged key is given without holders. */
  async *list(): AsyncGenerator<ListedRepositoryBlob> {
    const damaged: ListedRepositoryBlob[] = []
    const onDamaged = ({ key, etag, size }: { key: string; etag: Etag; size: number }): void => {
      const name = parseRepositoryBlobKey(key)
      if (name) damaged.push({ key, ...name, holders: [], deleted: undefined, etag, size })
    }
    for await (const { key, value, etag, size } of this.#records.list(PREFIX.repositoryBlobs, { onDamaged })) {
      const name = parseRepositoryBlobKey(key)
      if (name) yield { key, ...name, holders: value.holders, deleted: value.deleted, etag, size }
    }
    yield* damaged
  }

  /** For the collector: ends a key if it has not changed since it was listed. */
  async retire({ key, etag }: ListedRepositoryBlob): Promise<boolean> {
    return this.#records.retire(key, { value: undefined, etag })
  }

  /** For the collector: removes ended holders, if the key has not changed since it was listed. */
  async prune({ key, deleted, etag }: ListedRepositoryBlob, holders: readonly string[]): Promise<boolean> {
    return (
      (await this.#records.write(key, { holders: [...holders], deleted }, { value: undefined, etag })) !== undefined
    )
  }

  /** `false`: not added. Leases that come at the same time are added in one write. */
  async #hold(repository: Repository, digest: Digest, lease: string, rules: Rules): Promise<boolean> {
    const key = keys.repositoryBlob(repository, digest)
    const alike = `${key} ${rules.onlyIfHad ?? false} ${rules.staysDeleted ?? false}`
    return this.#holding.run(alike, lease, (leases) => this.#holdAll(repository, digest, leases, rules))
  }

  async #holdAll(
    repository: Repository,
    digest: Digest,
    leases: ReadonlySet<string>,
    { onlyIfHad = false, staysDeleted = false }: Rules,
  ): Promise<boolean> {
    const key = keys.repositoryBlob(repository, digest)
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const seen = await this.#records.look(key)
      const { holders, deleted }: RepositoryBlob = seen?.value ?? { holders: [] }
      if (onlyIfHad && (deleted || (!seen?.value && !(await this.isHadOtherwise(repository, digest))))) return false
      const mark = staysDeleted ? deleted : undefined
      const known = new Set(holders)
      if (mark === deleted && [...leases].every((lease) => known.has(lease))) return true
      const left = await this.#leases.holdersLeft(holders, leases.size)
      if (await this.#records.write(key, { holders: [...new Set([...left, ...leases])], deleted: mark }, seen))
        return true
    }
    throw changedTooOften(key)
  }
}
