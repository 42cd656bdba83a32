import { Inject, Injectable, Logger } from '@nestjs/common'
import { StrataError } from '@strata/base'
import { Repositories, underLease } from '@strata/images'
import {
  algorithmOf,
  digestOf,
  isManifestType,
  type Algorithm,
  type Digest,
  type Repository,
  type Tag,
} from '@strata/oci'
import type { ServiceMetrics } from '@strata/platform'
import {
  Leases,
  OBJECT_STORE,
  pushTimesIn,
  Uploads,
  type Chunk,
  type ObjectStore,
  type UploadStatus,
} from '@strata/store'
import { GATEWAY_CONFIG, METRICS, type GatewayConfig } from '../config.js'
import type { ManifestReference } from './names.js'
import { OpenUploads } from './open-uploads.js'
import { PushedLayers } from './pushed-layers.js'

/** A manifest that a client puts. */
export interface PutManifest {
  readonly bytes: Buffer
  readonly mediaType: string
  /** Further tags (of a put by digest). */
  readonly tags: readonly Tag[]
}

/**
 * What the clients of the registry put and delete, without HTTP. Uploads are those of
 * `@strata/store`, manifests and tags those of `@strata/images`: what was pushed is an image.
 *
 * A request that needs none of the gateway's room for bodies (a finish without one, a cancellation)
 * is always taken, unless bytes are to be read back for it.
 */
@Injectable()
export class PushService {
  readonly #logger = new Logger('push')
  readonly #uploads: Uploads
  readonly #leases: Leases
  readonly #begun: OpenUploads
  #open = 0
  #rehashed = 0

  constructor(
    @Inject(OBJECT_STORE) store: ObjectStore,
    private readonly repositories: Repositories,
    private readonly layers: PushedLayers,
    @Inject(GATEWAY_CONFIG) private readonly config: GatewayConfig,
    @Inject(METRICS) metrics: ServiceMetrics,
  ) {
    const open = metrics.gauge('strata_uploads_in_progress')
    metrics.onScrape(() => open.set({ kind: 'push' }, this.#open))
    const rehashes = metrics.counter('strata_upload_rehashes_total')
    const rehashedBytes = metrics.counter('strata_upload_rehashed_bytes_total')
    this.#uploads = new Uploads(store, repositories.blobs, {
      bytes: config.STRATA_MAX_BLOB_BYTES,
      ...pushTimesIn(config),
      readingBack: (work) => this.#receiving(work),
      onReadBack: (bytes) => {
        rehashes({})
        rehashedBytes({}, bytes)
      },
    })
    this.#leases = new Leases(store)
    this.#begun = new OpenUploads(this.#leases, config.STRATA_MAX_PUSH_UPLOADS)
  }

  /** See `Uploads.chunkBytes`. */
  get chunkBytes(): number {
    return this.#uploads.chunkBytes
  }

  /** @throws StrataError `overloaded` if too many uploads are open */
  async begin(repository: Repository, algorithm: Algorithm | undefined): Promise<UploadStatus> {
    return this.#begun.begin(() => this.#uploads.begin(repository, algorithm))
  }

  async status(repository: Repository, id: string): Promise<UploadStatus> {
    return this.#uploads.status(repository, id)
  }

  /** @throws as `Uploads.append`; `overloaded` if too many bodies are open */
  async append(repository: Repository, id: string, chunk: Chunk): Promise<UploadStatus> {
    return this.#receiving(() => this.#uploads.append(repository, id, chunk))
  }

  /** @throws as `Uploads.finish`; `overloaded` */
  async finish(
    repository: Repository,
    id: string,
    digest: Digest,
    chunk: Chunk | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const finish = async (): Promise<void> => this.#uploads.finish(repository, id, digest, chunk, signal)
    await (chunk ? this.#receiving(finish) : finish())
    this.#begun.ended(id)
    if (this.#uploads.rehashed === this.#rehashed) return
    this.#rehashed = this.#uploads.rehashed
    this.#logger.warn(
      `${this.#rehashed} bytes of uploads were read back since the start, because their hash could not be kept`,
    )
  }

  /** @throws as `Uploads.put`; `overloaded` */
  async put(repository: Repository, digest: Digest, chunk: Chunk): Promise<void> {
    await this.#receiving(() => this.#uploads.put(repository, digest, chunk))
  }

  async mount(repository: Repository, digest: Digest, from: Repository | undefined): Promise<boolean> {
    return this.#uploads.mount(repository, digest, from)
  }

  /**
   * Keeps a blob for a client that is told that it is there (`Uploads.keep`).
   * @throws StrataError `blob_not_found` if it was collected or deleted meanwhile
   */
  async keep(repository: Repository, digest: Digest, holders: readonly string[]): Promise<void> {
    try {
      if (await this.#uploads.keep(repository, digest, holders)) return
    } catch (error) {
      // A client that pulls needs no hold, and nobody can push now.
      if (error instanceof StrataError && error.code === 'storage_full') return
      throw error
    }
    throw new StrataError('blob_not_found', `${repository} has no blob ${digest}`)
  }

  async cancel(repository: Repository, id: string): Promise<void> {
    await this.#uploads.cancel(repository, id)
    this.#begun.ended(id)
  }

  /**
   * Puts a manifest, and points its tags at it. Behind that, `PushedLayers` indexes its layers.
   * @throws StrataError `digest_mismatch`, and as `Manifests.put`
   */
  async manifest(
    repository: Repository,
    reference: ManifestReference,
    { bytes, mediaType, tags }: PutManifest,
  ): Promise<{ readonly digest: Digest; readonly subject: Digest | undefined }> {
    const digest = digestOf(bytes, 'tag' in reference ? 'sha256' : algorithmOf(reference.digest))
    if ('digest' in reference && digest !== reference.digest)
      throw new StrataError('digest_mismatch', `the manifest has the digest ${digest}, not ${reference.digest}`)
    const all = 'tag' in reference ? [reference.tag, ...tags] : tags
    const made = await underLease(this.#leases, async (run) => {
      const { manifests, tags: names } = this.repositories
      const put = { digest, bytes, mediaType }
      let made = 'digest' in reference ? await manifests.put(repository, digest, bytes, mediaType, run) : undefined
      if (all.length > 0) made = await names.putAll(repository, all, put, run)
      return { digest, subject: made?.attached?.subject }
    })
    if (isManifestType(mediaType)) this.layers.index(digest)
    return made
  }

  /** @throws StrataError `manifest_not_found` */
  async deleteManifest(repository: Repository, reference: ManifestReference): Promise<void> {
    const { manifests, tags } = this.repositories
    const isDeleted =
      'tag' in reference
        ? await tags.delete(repository, reference.tag)
        : await manifests.delete(repository, reference.digest)
    if (isDeleted) return
    const what = 'tag' in reference ? `tag ${reference.tag}` : `manifest ${reference.digest}`
    throw new StrataError('manifest_not_found', `${repository} has no ${what}`)
  }

  /** @throws StrataError `blob_not_found` */
  async deleteBlob(repository: Repository, digest: Digest): Promise<void> {
    if (!(await this.repositories.blobs.delete(repository, digest)))
      throw new StrataError('blob_not_found', `${repository} has no blob ${digest}`)
  }

  async #receiving<T>(work: () => Promise<T>): Promise<T> {
    const most = this.config.STRATA_MAX_PUSHES
    if (this.#open >= most)
      throw new StrataError(
        'overloaded',
        `${most} bodies of pushes are open, as many as this gateway takes at once (STRATA_MAX_PUSHES): send it again in a moment`,
      )
    this.#open++
    try {
      return await work()
    } finally {
      this.#open--
    }
  }
}
