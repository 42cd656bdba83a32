import { hexOf, type Digest, type Repository } from '@strata/oci'
import { keys, listAll, parseImageKey, PREFIX, TOMBSTONE_BYTES, type ObjectStore } from '@strata/store'
import { recordOf, type RecordedManifest } from '../image.js'
import type { Names } from '../names.js'

/** How many tags are read at the same time. */
const AT_ONCE = 16

/**
 * Finds manifests by the tags of their repository, for as long as not every tag has its manifest's
 * record: on a store of an older version, and after a loss of power, until the storage service has
 * made the records at its start (`Upkeep`). So a registry serves what an older version has loaded
 * from its first request on. Until then a look-up reads all tags of its repository, and the catalog
 * lists all names. Afterwards a look-up here makes no store call.
 */
export class OldTags {
  #areAllKept = false

  constructor(
    private readonly store: ObjectStore,
    private readonly names: Names,
  ) {}

  /** Whether every tag has its manifest's record. */
  async areAllKept(): Promise<boolean> {
    this.#areAllKept ||= (await this.store.stat(keys.allManifestsKept)) !== undefined
    return this.#areAllKept
  }

  /** What a tag of the repository says of the manifest. */
  async find(repository: Repository, digest: Digest): Promise<RecordedManifest | undefined> {
    for await (const record of this.of(repository)) if (record.digest === digest) return record
    return undefined
  }

  /** Whether an index that has a tag in the repository was loaded with the manifest. */
  async isPart(repository: Repository, digest: Digest): Promise<boolean> {
    for await (const { whole } of this.of(repository))
      if (whole?.parts.some((part) => part.digest === digest)) return true
    return false
  }

  /** What the tags of a repository stand for. None if `areAllKept`. */
  async *of(repository: Repository): AsyncGenerator<RecordedManifest> {
    if (await this.areAllKept()) return
    let found: string[] = []
    for await (const { key, size } of listAll(this.store, keys.tagsOf(repository))) {
      if (size !== TOMBSTONE_BYTES) found.push(key)
      if (found.length < AT_ONCE) continue
      yield* this.#read(found)
      found = []
    }
    yield* this.#read(found)
  }

  /** A page of the manifests of a repository, as `Manifests.page`. */
  async manifests(
    repository: Repository,
    limit: number,
    after?: Digest,
  ): Promise<{ digests: Digest[]; next?: Digest }> {
    const digests = new Set<Digest>()
    for await (const { key, size } of listAll(this.store, keys.manifestsOf(repository))) {
      const name = size === TOMBSTONE_BYTES ? undefined : parseImageKey(key)
      if (name?.digest !== undefined) digests.add(name.digest)
    }
    for await (const { digest } of this.of(repository)) digests.add(digest)
    const { items, ...rest } = pageOfAll(digests, hexOf, limit, after)
    return { digests: items, ...rest }
  }

  /** A page of all repositories that have a tag or a manifest, as `Repositories.page`. */
  async repositories(limit: number, after?: Repository): Promise<{ repositories: Repository[]; next?: Repository }> {
    const repositories = new Set<Repository>()
    for await (const { key, size } of listAll(this.store, PREFIX.images)) {
      const name = size === TOMBSTONE_BYTES ? undefined : parseImageKey(key)
      if (name?.repository !== undefined) repositories.add(name.repository)
    }
    const { items, ...rest } = pageOfAll(repositories, keys.repository, limit, after)
    return { repositories: items, ...rest }
  }

  async *#read(found: readonly string[]): AsyncGenerator<RecordedManifest> {
    for (const entry of await Promise.all(found.map((key) => this.names.look(key))))
      if (entry && !('damage' in entry)) yield recordOf(entry)
  }
}

/** At most `limit` of those behind `after`, in the order of their keys. */
function pageOfAll<T>(
  all: Iterable<T>,
  keyOf: (item: T) => string,
  limit: number,
  after: T | undefined,
): { readonly items: T[]; readonly next?: T } {
  const byKey = new Map([...all].map((item) => [keyOf(item), item]))
  const from = after === undefined ? '' : keyOf(after)
  const order = [...byKey.keys()].filter((key) => key > from).sort()
  const items = order.slice(0, limit).map((key) => byKey.get(key)!)
  return order.length > limit ? { items, next: items.at(-1)! } : { items }
}
