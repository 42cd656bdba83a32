import { Inject, Injectable } from '@nestjs/common'
import { asCode, StrataError } from '@strata/base'
import { Repositories, type Deprecation, type Referrer } from '@strata/images'
import { MAX_JSON_BYTES, type Digest, type Repository, type Tag } from '@strata/oci'
import { cacheObserver, type ServiceMetrics } from '@strata/platform'
import { BlobStore, OBJECT_STORE, type ByteRange, type ObjectStore, type PresignedReads } from '@strata/store'
import { GATEWAY_CONFIG, METRICS, type GatewayConfig } from '../config.js'
import type { BodyPart } from '../send-parts.js'
import { AnswerMemory, type CountBytes, type HeldBytes } from './answer-memory.js'
import type { ManifestReference } from './names.js'
import type { PageQuery } from './page.js'

/** The injection token of the addresses at the S3 server's public endpoint. */
export const PUBLIC_READS = Symbol('public reads')

const MEBIBYTE = 1024 * 1024
/** What a name takes in a page at most: a repository's has 255 characters. */
const NAME_BYTES = 300
/** What a page has beside its entries. */
const PAGE_BYTES = 1024

/** A manifest as it is served. */
export interface ServedManifest {
  readonly digest: Digest
  readonly mediaType: string
  readonly size: number
  readonly deprecated?: Deprecation | undefined
}

export interface ServedBlob {
  readonly size: number
  /** The leases that hold both the blob and the repository's key of it. */
  readonly holders: readonly string[]
  /**
   * Makes an address at the S3 server's public endpoint where a client may read the blob. Whoever
   * has it may read, so it belongs into no log. `undefined` without such an endpoint, and for a
   * blob in pieces.
   */
  readonly address: (() => Promise<string>) | undefined
  /** @throws StrataError `blob_not_found` if it was collected meanwhile */
  readonly parts: (range: ByteRange) => AsyncIterable<BodyPart>
}

/**
 * What the registry serves (distribution-spec 1.1.1), without HTTP: repositories are those of
 * `@strata/images`, so what was loaded can be pulled, and what was pushed can be launched.
 *
 * | operation | store calls |
 * | --- | --- |
 * | a manifest by its tag | 1 for what it is; 2 more for its bytes if they are not in memory |
 * | a manifest by its digest | the same; of a part of an index that was loaded, some 4 more |
 * | a blob | 2 for its size; for its bytes 1 more for each of its pieces, or none if its address is given |
 * | a page of tags, of the catalog | 1; of a repository without tags 2 |
 * | a page of referrers | 1, and 1 for each referrer in it |
 *
 * A blob is served by a repository only if that repository has it (`RepositoryBlobs`): else a
 * client could read by a digest what only another repository has.
 */
@Injectable()
export class RegistryService {
  readonly #blobs: BlobStore
  readonly #answers: AnswerMemory
  readonly #addressSeconds: number

  constructor(
    @Inject(OBJECT_STORE) store: ObjectStore,
    private readonly repositories: Repositories,
    @Inject(PUBLIC_READS) private readonly publicReads: PresignedReads | undefined,
    @Inject(GATEWAY_CONFIG) config: Pick<GatewayConfig, 'STRATA_MANIFEST_MEMORY' | 'STRATA_S3_PUBLIC_SECONDS'>,
    @Inject(METRICS) metrics: ServiceMetrics,
  ) {
    this.#blobs = new BlobStore(store)
    this.#answers = new AnswerMemory(config.STRATA_MANIFEST_MEMORY * MEBIBYTE, cacheObserver(metrics, 'manifests'))
    this.#addressSeconds = config.STRATA_S3_PUBLIC_SECONDS
  }

  /** At most `limit` repositories behind `last`; `next` if more may follow. */
  async catalog(
    limit: number,
    last: Repository | undefined,
  ): Promise<{ readonly repositories: readonly Repository[]; readonly next?: Repository }> {
    return limit === 0 ? { repositories: [] } : this.repositories.page(limit, last)
  }

  /**
   * At most `limit` tags behind `last`, in the order of their bytes.
   * @throws StrataError `repository_not_found` if the repository has neither tags nor manifests
   */
  async tags(
    repository: Repository,
    { limit, last }: PageQuery,
  ): Promise<{ readonly tags: readonly Tag[]; readonly next?: Tag }> {
    const page = await this.repositories.tags.page(repository, Math.max(limit, 1), last)
    if (page.tags.length === 0 && last === undefined) await this.#expectRepository(repository)
    return limit === 0 ? { tags: [] } : page
  }

  /**
   * A manifest. Its bytes, as they were put, are given only if `areBytesWanted` is true for it. The
   * caller releases them when the client has them. What the repository has is read from the store
   * each time, and the bytes of a digest may come from memory.
   * @throws StrataError `manifest_not_found`; `corrupt` if its bytes are gone; `overloaded` if slow
   * clients hold too much
   */
  async manifest(
    repository: Repository,
    reference: ManifestReference,
    areBytesWanted: (manifest: ServedManifest) => boolean,
  ): Promise<ServedManifest & { readonly held: HeldBytes | undefined }> {
    for (let last: Digest | undefined; ;) {
      const found = await this.#find(repository, reference)
      if (!areBytesWanted(found)) return { ...found, held: undefined }
      const { digest, size } = found
      try {
        return {
          ...found,
          held: await this.#answers.manifest(digest, size, () => this.#blobs.read(digest, MAX_JSON_BYTES)),
        }
      } catch (error) {
        if (!(error instanceof StrataError && error.code === 'not_found')) throw error
        // Between the two reads the manifest may be deleted, and the tag moved.
        if (digest === last)
          throw new StrataError('corrupt', `the bytes of manifest ${last} are gone`, { cause: error })
        last = digest
      }
    }
  }

  /**
   * A page of a list as JSON: of so many names, and of what `build` counts beside them. Its bytes
   * count from before it is made until the caller releases them.
   * @throws StrataError `overloaded` if slow clients hold too much; what `build` throws
   */
  async page(names: number, build: (count: CountBytes) => Promise<object>): Promise<HeldBytes> {
    return this.#answers.page(names * NAME_BYTES + PAGE_BYTES, async (count) =>
      Buffer.from(JSON.stringify(await build(count))),
    )
  }

  /** @throws StrataError `blob_not_found` */
  async blob(repository: Repository, digest: Digest): Promise<ServedBlob> {
    const unknown = (): StrataError => new StrataError('blob_not_found', `${repository} has no blob ${digest}`)
    const holders = await this.repositories.blobs.holders(repository, digest)
    if (!holders) throw unknown()
    const record = await this.#blobs.stat(digest)
    if (!record) throw unknown()
    const blobs = this.#blobs
    async function* parts(range: ByteRange): AsyncGenerator<BodyPart> {
      try {
        yield* blobs.parts(digest, range, record)
      } catch (error) {
        throw asCode(error, { not_found: 'blob_not_found' })
      }
    }
    const { publicReads } = this
    const only = 'pieces' in record ? undefined : record.data
    return {
      size: record.size,
      holders: holders.filter((lease) => record.holders.includes(lease)),
      parts,
      address:
        publicReads && only !== undefined ? () => publicReads.presignedGet(only, this.#addressSeconds) : undefined,
    }
  }

  /**
   * At most `limit` referrers of a subject, whether or not it is there; `next` if more may follow.
   * `count` gets the bytes of each before it is kept.
   */
  async referrers(
    repository: Repository,
    subject: Digest,
    limit: number,
    options: {
      readonly after?: Digest | undefined
      readonly artifactType?: string | undefined
      readonly count: CountBytes
    },
  ): Promise<{ readonly referrers: readonly Referrer[]; readonly next?: Digest }> {
    return this.repositories.referrers.page(repository, subject, limit, options)
  }

  async #find(repository: Repository, reference: ManifestReference): Promise<ServedManifest> {
    const { manifests, tags } = this.repositories
    const found = await ('tag' in reference
      ? tags.get(repository, reference.tag)
      : manifests.stat(repository, reference.digest))
    if (found) return found
    const what = 'tag' in reference ? `tag ${reference.tag}` : `manifest ${reference.digest}`
    throw new StrataError('manifest_not_found', `${repository} has no ${what}`)
  }

  async #expectRepository(repository: Repository): Promise<void> {
    const { digests } = await this.repositories.manifests.page(repository, 1)
    if (digests.length === 0) throw new StrataError('repository_not_found', `there is no repository ${repository}`)
  }
}
