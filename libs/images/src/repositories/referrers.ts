import { MAX_JSON_BYTES, type Digest, type Repository } from '@strata/oci'
import type { Attached, PlainManifest } from '../image.js'
import { annotationsOf } from './describe.js'
import type { RepositoryParts } from './manifests.js'

/** A descriptor as the list of referrers has it. */
export interface Referrer {
  readonly digest: Digest
  readonly mediaType: string
  readonly size: number
  readonly artifactType: string | undefined
  readonly annotations: Readonly<Record<string, string>>
}

/**
 * The manifests of a repository whose `subject` is a digest, whether or not the repository has that
 * (distribution-spec, "Listing Referrers").
 *
 * A page is one list, and one read for each referrer in it: a mark says which manifests may refer
 * to the subject, and the manifest's own record decides (`NameMarks`, subject marks). Annotations
 * of more than 16 KiB are read from the manifest: two reads more.
 *
 * A referrer is a manifest like any other. It stays until it is deleted by its digest, also if its
 * subject is deleted: a subject may be put after its referrers, and may be put again.
 */
export class Referrers {
  constructor(private readonly parts: RepositoryParts) {}

  /**
   * At most `limit` referrers behind `after`, in the order of their digests; `next` if more may
   * follow. With `artifactType` only those of that type, so that a page may have fewer.
   */
  async page(
    repository: Repository,
    subject: Digest,
    limit: number,
    { after, artifactType }: { after?: Digest | undefined; artifactType?: string | undefined } = {},
  ): Promise<{ readonly referrers: readonly Referrer[]; readonly next?: Digest }> {
    const { manifests, ...rest } = await this.parts.names.referrersOf(repository, subject, limit, after)
    const found = manifests.filter(
      ({ attached }) => artifactType === undefined || attached?.artifactType === artifactType,
    )
    return { referrers: await Promise.all(found.map((manifest) => this.#describe(manifest))), ...rest }
  }

  async #describe({ digest, mediaType, manifestSize: size, attached }: PlainManifest): Promise<Referrer> {
    return {
      digest,
      mediaType,
      size,
      artifactType: attached?.artifactType,
      annotations: await this.#annotations(digest, attached),
    }
  }

  async #annotations(digest: Digest, attached: Attached | undefined): Promise<Record<string, string>> {
    return attached?.annotations ?? annotationsOf(await this.parts.blobs.read(digest, MAX_JSON_BYTES), digest)
  }
}
