import { atMost, StrataError } from '@strata/base'
import { mediaTypeOfPart, readDocument, MAX_PARTS, type Document } from '@strata/images'
import {
  bestFor,
  formatPlatform,
  HOST_PLATFORM,
  isDigest,
  isIndexType,
  isManifestType,
  MAX_JSON_BYTES,
  type Descriptor,
  type Digest,
  type Platform,
  type Tag,
} from '@strata/oci'
import type { OnWait, RemoteRepository } from '@strata/remote'
import type { BlobStore } from '@strata/store'

/** Manifests that are asked for, and held in memory, at the same time. Each has at most 4 MiB. */
const AT_ONCE = 4
/** Blobs that one pull brings. Each has a descriptor in memory, and a few store calls. */
export const MAX_PULLED_BLOBS = 20_000
/** Indexes below the first one in which a platform is looked for. */
const MAX_NESTED = 16

export type Wanted = Platform | 'all'

/** What is pulled. */
export interface PulledTree {
  /** What is put, in this order: each index behind all that is below it. The last is the root. */
  readonly documents: readonly Document[]
  /** The image that a node here would run, if there is one. */
  readonly image: Document | undefined
  /** Platforms that the root names: none for one image. */
  readonly platforms: readonly string[]
}

/**
 * Manifests of another repository. They become blobs, held by the pull's lease, as soon as they are
 * here: they are asked for once, whatever becomes of the runs.
 */
export class PulledDocuments {
  constructor(
    private readonly there: RemoteRepository,
    private readonly blobs: BlobStore,
    private readonly lease: string,
    private readonly options: { readonly signal: AbortSignal; readonly onWait: OnWait },
  ) {}

  /**
   * What a name stands for. `settle` records it before its bytes are stored, so that all that the
   * lease has written belongs to what is recorded.
   */
  async root(
    reference: Tag | Digest,
    settle: (root: { readonly digest: Digest; readonly mediaType: string }) => Promise<void>,
  ): Promise<void> {
    if (isDigest(reference) && (await this.blobs.hold(reference, this.lease))) {
      const bytes = await this.blobs.read(reference, MAX_JSON_BYTES)
      return settle({ digest: reference, mediaType: mediaTypeOfPart(bytes, reference) })
    }
    const { digest, mediaType, bytes } = await this.there.manifest(reference, this.options)
    await settle({ digest, mediaType })
    await this.blobs.add(digest, bytes, this.lease)
  }

  /** @throws StrataError as `readDocument`; `corrupt` */
  async get(digest: Digest, mediaType: string | undefined): Promise<Document> {
    this.options.signal.throwIfAborted()
    if (await this.blobs.hold(digest, this.lease)) {
      const bytes = await this.blobs.read(digest, MAX_JSON_BYTES)
      return readDocument(digest, bytes, mediaType ?? mediaTypeOfPart(bytes, digest))
    }
    const found = await this.there.manifest(digest, this.options)
    const document = readDocument(digest, found.bytes, mediaType ?? found.mediaType)
    await this.blobs.add(digest, found.bytes, this.lease)
    return document
  }

  /**
   * The root and what of it is wanted. Without a wish: the image of this machine's platform.
   * @throws StrataError `unsupported` if an index has nothing for the platform; `limit_exceeded`
   */
  async tree(root: { digest: Digest; mediaType: string }, wanted: Wanted | undefined): Promise<PulledTree> {
    const top = await this.get(root.digest, root.mediaType)
    if (!top.children) return { documents: [top], image: top, platforms: [] }
    const platforms = imagesIn(top.children).map(({ platform }) => formatPlatform(platform))
    const documents = wanted === 'all' ? await this.#all(top) : await this.#one(top, wanted ?? HOST_PLATFORM)
    expectParts(top, documents)
    const meant = wanted === 'all' ? bestFor(imagesIn(top.children), HOST_PLATFORM) : documents[0]
    return { documents, image: documents.find(({ digest }) => digest === meant?.digest), platforms }
  }

  /** Everything below, level by level. */
  async #all(top: Document): Promise<Document[]> {
    const levels: Document[][] = [[top]]
    const seen = new Set([top.digest])
    let blobs = 0
    for (let level = [top]; level.length > 0; levels.push(level)) {
      const next: Descriptor[] = []
      for (const child of level.flatMap(({ children }) => children ?? [])) {
        if (seen.has(child.digest) || !isDocument(child)) continue
        expectCount(top, seen.add(child.digest))
        next.push(child)
      }
      // Counted as they come: a level may name millions.
      level = await atMost(AT_ONCE, next, async ({ digest, mediaType }) => {
        const document = await this.get(digest, mediaType)
        blobs += document.descriptors.length
        if (blobs <= MAX_PULLED_BLOBS) return document
        throw new StrataError(
          'limit_exceeded',
          `the images of index ${top.digest} name more than ${MAX_PULLED_BLOBS} blobs: pull one platform of it`,
        )
      })
    }
    return levels.reverse().flat()
  }

  /** The best image for the platform, and the indexes on the way to it. */
  async #one(top: Document, wanted: Platform): Promise<Document[]> {
    const seen = new Set([top.digest])
    const ways: Document[][] = [[top]]
    for (const way of ways) {
      const children = way[0]?.children ?? []
      const best = bestFor(imagesIn(children), wanted)
      if (best) return [await this.get(best.digest, best.mediaType), ...way]
      for (const { digest, mediaType } of children) {
        if (!isIndexType(mediaType) || seen.has(digest) || seen.size > MAX_NESTED) continue
        seen.add(digest)
        ways.push([await this.get(digest, mediaType), ...way])
      }
    }
    const has = imagesIn(top.children ?? []).map(({ platform }) => formatPlatform(platform))
    throw new StrataError(
      'unsupported',
      `index ${top.digest} has no image for ${formatPlatform(wanted)}${has.length === 0 ? '' : `; it has ${[...new Set(has)].slice(0, 30).join(', ')}`}: choose another platform, or all`,
    )
  }
}

/** A descriptor without a media type may be a manifest's. */
function isDocument({ mediaType }: Descriptor): boolean {
  return mediaType === undefined || isManifestType(mediaType) || isIndexType(mediaType)
}

/** An attestation says that it is for `unknown/unknown`. */
function imagesIn(children: readonly Descriptor[]) {
  return children.flatMap(({ platform, ...child }) =>
    platform && platform.os !== 'unknown' && (child.mediaType === undefined || isManifestType(child.mediaType))
      ? [{ ...child, platform }]
      : [],
  )
}

/** A repository counts what the indexes name and lack too, when all blobs are here. */
function expectParts(top: Document, documents: readonly Document[]): void {
  const seen = new Set([top.digest])
  for (const { children } of documents) for (const { digest } of children ?? []) expectCount(top, seen.add(digest))
}

function expectCount({ digest }: Document, seen: ReadonlySet<Digest>): void {
  if (seen.size > MAX_PARTS + 1)
    throw new StrataError('limit_exceeded', `index ${digest} leads to more than ${MAX_PARTS} manifests`)
}
