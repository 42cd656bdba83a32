import { Serial, StrataError } from '@strata/base'
import { MAX_JSON_BYTES, type Digest, type Repository } from '@strata/oci'
import { keys } from '@strata/store'
import type { Attached } from '../image.js'
import { annotationsOf, mediaTypeOfPart, readDocument } from './describe.js'
import { MAX_PAGE } from './page.js'
import type { RepositoryParts } from './repository-parts.js'

/** A descriptor as the list of referrers has it. */
export interface Referrer {
  readonly digest: Digest
  readonly mediaType: string
  readonly size: number
  readonly artifactType: string | undefined
  readonly annotations: Readonly<Record<string, string>>
}

/** A referrer, and its bytes as JSON. */
interface Counted {
  readonly referrer: Referrer
  readonly size: number
}

/**
 * How many referrers of a page are looked for at the same time, and how many manifests are read for
 * all pages together. Each has at most 4 MiB.
 */
const AT_ONCE = 4
/** A page ends before its referrers have more bytes than this as JSON, but it has at least one. */
const MAX_PAGE_BYTES = 4 * 1024 * 1024

/**
 * The manifests of a repository whose `subject` is a digest, whether or not the repository has that
 * (distribution-spec, "Listing Referrers").
 *
 * A page is one list, and one read for each referrer in it: a mark says which manifests may refer
 * to the subject, and the manifest's own record decides (`NameMarks`, subject marks). Annotations
 * of more than 16 KiB are read from the manifest: two reads more. A manifest that came as a part of
 * an index that was loaded has no record of its own: some 4 reads more.
 *
 * A referrer is a manifest like any other. It stays until it is deleted by its digest, also if its
 * subject is deleted: a subject may be put after its referrers, and may be put again.
 */
export class Referrers {
  /** Bytes of manifests are held in these lines alone. */
  readonly #lines = Array.from({ length: AT_ONCE }, () => new Serial())
  #reads = 0

  constructor(private readonly parts: RepositoryParts) {}

  /**
   * At most `limit` referrers behind `after`, in the order of their digests; `next` if more may
   * follow. A page has at most `MAX_PAGE` referrers and 4 MiB. With `artifactType` only those of
   * that type, so that a page may have fewer, even none. `count` gets the bytes of each as JSON, as
   * soon as it is held.
   */
  async page(
    repository: Repository,
    subject: Digest,
    limit: number,
    {
      after,
      artifactType,
      count = () => undefined,
    }: { after?: Digest | undefined; artifactType?: string | undefined; count?: (bytes: number) => void } = {},
  ): Promise<{ readonly referrers: readonly Referrer[]; readonly next?: Digest }> {
    const { names } = this.parts
    const { digests, ...rest } = await names.mayReferTo(repository, subject, Math.min(limit, MAX_PAGE), after)
    const find = async (digest: Digest): Promise<Counted | undefined> => {
      const referrer = await this.#find(repository, subject, digest, artifactType)
      if (!referrer) return undefined
      const size = Buffer.byteLength(JSON.stringify(referrer))
      count(size)
      return { referrer, size }
    }
    const referrers: Referrer[] = []
    let bytes = 0
    let last: Digest | undefined
    for (let at = 0; at < digests.length; at += AT_ONCE) {
      const some = digests.slice(at, at + AT_ONCE)
      for (const [i, one] of (await Promise.all(some.map(find))).entries()) {
        if (one) {
          bytes += one.size
          if (bytes > MAX_PAGE_BYTES && referrers.length > 0 && last) return { referrers, next: last }
          referrers.push(one.referrer)
        }
        last = some[i]
      }
    }
    return { referrers, ...rest }
  }

  async #find(
    repository: Repository,
    subject: Digest,
    digest: Digest,
    artifactType: string | undefined,
  ): Promise<Referrer | undefined> {
    const entry = await this.parts.names.look(keys.imageDigest(repository, digest))
    const found =
      entry && 'manifest' in entry && entry.manifest.attached
        ? { ...entry.manifest, size: entry.manifest.manifestSize }
        : await this.#partOfIndex(repository, digest)
    const { attached } = found ?? {}
    if (!found || attached?.subject !== subject) return undefined
    if (artifactType !== undefined && attached.artifactType !== artifactType) return undefined
    const { mediaType, size } = found
    const annotations = await this.#annotations(digest, attached)
    return { digest, mediaType, size, artifactType: attached.artifactType, annotations }
  }

  async #partOfIndex(
    repository: Repository,
    digest: Digest,
  ): Promise<{ mediaType: string; size: number; attached: Attached | undefined } | undefined> {
    const index = (await this.parts.names.parentsOf(repository, digest).next()).value as Digest | undefined
    return index && this.#read(digest, (bytes) => readDocument(digest, bytes, mediaTypeOfPart(bytes, digest)))
  }

  /** Empty if the manifest's bytes are gone: it was deleted, or is damaged. */
  async #annotations(digest: Digest, attached: Attached): Promise<Record<string, string>> {
    if (attached.annotations) return attached.annotations
    return (await this.#read(digest, (bytes) => annotationsOf(bytes, digest))) ?? {}
  }

  async #read<T>(digest: Digest, work: (bytes: Buffer) => T): Promise<T | undefined> {
    return this.#lines[this.#reads++ % AT_ONCE]!.run(async () => {
      const bytes = await this.#bytes(digest)
      return bytes && work(bytes)
    })
  }

  async #bytes(digest: Digest): Promise<Buffer | undefined> {
    return this.parts.blobs.read(digest, MAX_JSON_BYTES).catch((error: unknown) => {
      if (error instanceof StrataError && ['not_found', 'corrupt'].includes(error.code)) return undefined
      throw error
    })
  }
}
