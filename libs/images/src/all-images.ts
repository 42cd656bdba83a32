import { diffIdsOf, digestOf, type DiffId, type Digest, type Repository } from '@strata/oci'
import type { BlobStore, IsHad } from '@strata/store'
import { isPlain, recordOf, type Image, type RecordedManifest } from './image.js'
import { groupByImage, type NameEntry, type Names, type PlainEntry } from './names.js'
import { readWithBlobs, ifNotFound, type WithBlobs } from './read-image.js'
import type { Manifests } from './repositories/manifests.js'

/**
 * What is said of all images at once. Each method makes one pass over the names, page by page, and
 * holds no list of them:
 *
 * | method | reads | holds |
 * | --- | --- | --- |
 * | `count` | keys of marks, no name | the marks of one image |
 * | `untagged` | each name once | the digests of each image |
 * | `untaggedManifests` | each name once | the digests of one repository's manifests, and what it gives |
 * | `stacks` | each name of an image once, and each image | one image |
 * | `usage` | the same | the digest of each blob |
 * | `references` | each name once, and each manifest once for each repository that has it | the digests of one repository's manifests |
 *
 * An image that is removed during a pass may be left out, or not.
 */
export class AllImages {
  constructor(
    private readonly names: Names,
    private readonly blobs: BlobStore,
    private readonly manifests: Manifests,
  ) {}

  /** See `Names.count`. */
  async count(): Promise<number> {
    return this.names.count()
  }

  /**
   * Every blob that an image or another manifest refers to, some more than once. For the
   * collector, so it fails rather than leave one out. `without`: what a dry run takes for removed.
   * `isHad`: see `CollectOptions`.
   *
   * A name that is set or moved during the pass may be missed. Its writer holds all blobs under a
   * lease that began after the collector looked at the blobs' records, or that the collector has
   * seen alive.
   * @throws StrataError `corrupt` if a name or a manifest cannot be read
   */
  async *references(without: Without = NOTHING, isHad: IsHad = () => undefined): AsyncGenerator<Digest> {
    let current: Repository | undefined
    let seen = new Set<string>()
    for await (const entry of this.names.walk()) {
      if ('damage' in entry) throw entry.damage
      const { repository } = entry.name
      const record = recordOf(entry)
      if (isPlain(record) ? without.manifests.has(entry.key) : without.images.has(record.digest)) continue
      if (repository !== current) seen = new Set()
      current = repository
      const content = contentOf(record)
      if (seen.has(content)) continue
      seen.add(content)
      for (const digest of await this.#blobsOf(entry)) {
        if (repository !== undefined) isHad(repository, digest)
        yield digest
      }
    }
  }

  /**
   * The layers of every image, lowest first. `without`: images to leave out.
   * @throws StrataError `corrupt` if a name, manifest or config cannot be read
   */
  async *stacks(without: ReadonlySet<Digest> = new Set()): AsyncGenerator<readonly DiffId[]> {
    for await (const { digest, entries, damaged } of this.names.byImage()) {
      if (damaged[0]) throw damaged[0].damage
      const read = without.has(digest) ? undefined : await this.#read(entries)
      if (read) yield diffIdsOf(read.config)
    }
  }

  /**
   * How many images there are, how many of them are used, and the bytes of their blobs, each
   * counted once; `reclaimable` are those of blobs that no used image has.
   */
  async usage(
    isUsed: (image: Image) => boolean,
  ): Promise<{ total: number; active: number; bytes: number; reclaimable: number }> {
    const counted = new Set<Digest>()
    const used = new Set<Digest>()
    let [total, active, bytes, activeBytes] = [0, 0, 0, 0]
    for await (const { entries } of this.names.byImage()) {
      const read = await this.#read(entries)
      if (!read) continue
      const isActive = isUsed(read.image)
      total++
      if (isActive) active++
      for (const [digest, size] of read.blobs) {
        if (!counted.has(digest)) bytes += size
        if (isActive && !used.has(digest)) activeBytes += size
        counted.add(digest)
        if (isActive) used.add(digest)
      }
    }
    return { total, active, bytes, reclaimable: bytes - activeBytes }
  }

  /**
   * The images without a tag: what docker calls dangling. One that an index names may be among
   * them: it loses its own entry, and stays as a part of the index (`lookBelow`).
   * @throws StrataError `corrupt` if a name cannot be read: it may be the tag of any image
   */
  async untagged(): Promise<Pick<Image, 'id' | 'digest'>[]> {
    const tagged = new Set<Digest>()
    const untagged = new Map<Digest, Pick<Image, 'id' | 'digest'>>()
    for await (const entry of this.names.walk()) {
      if ('damage' in entry) throw entry.damage
      if (!('image' in entry)) continue
      const { id, digest } = entry.image
      if (entry.name.tag) {
        tagged.add(digest)
        untagged.delete(digest)
      } else if (!tagged.has(digest)) untagged.set(digest, { id, digest })
    }
    return [...untagged.values()]
  }

  /**
   * The manifests that are no images, were kept for a tag, and have none in their repository. One
   * that has a subject is found by it, so it is not among them. One that an index names may be:
   * see `untagged`.
   * @throws StrataError `corrupt` if a name cannot be read: it may be the tag of any manifest
   */
  async untaggedManifests(): Promise<UntaggedManifest[]> {
    const found: UntaggedManifest[] = []
    let repository: Repository | undefined
    let untagged = new Set<Digest>()
    const finish = (): void => {
      const of = repository
      if (of !== undefined) found.push(...[...untagged].map((digest) => ({ repository: of, digest })))
      untagged = new Set()
    }
    for await (const entry of this.names.walk()) {
      if ('damage' in entry) throw entry.damage
      if (entry.name.repository !== repository) finish()
      repository = entry.name.repository
      const record = recordOf(entry)
      // A repository's manifests come before its tags.
      if (entry.name.tag !== undefined) untagged.delete(record.digest)
      else if (isPlain(record) && record.kept === 'tag' && !record.attached) untagged.add(record.digest)
    }
    finish()
    return found
  }

  /** All that one name needs. Nothing if it was removed, or moved, since it was listed. */
  async #blobsOf(entry: NameEntry | PlainEntry): Promise<Iterable<Digest>> {
    const record = recordOf(entry)
    try {
      return await this.#blobsNamedBy(record)
    } catch {
      const again = await this.names.look(entry.key)
      if (again && 'damage' in again) throw again.damage
      if (!again || recordOf(again).digest !== record.digest) return []
      return this.#blobsNamedBy(recordOf(again))
    }
  }

  async #blobsNamedBy(record: RecordedManifest): Promise<Iterable<Digest>> {
    if (!isPlain(record)) return (await readWithBlobs(record, this.blobs)).blobs.keys()
    return this.manifests.blobsOf(record).catch((error: unknown) => {
      throw ifNotFound(error, 'corrupt', `manifest ${record.digest} is incomplete`)
    })
  }

  /** The image that has these names. Nothing if it was removed since they were read. */
  async #read(entries: readonly NameEntry[]): Promise<WithBlobs | undefined> {
    const [image] = groupByImage(entries)
    return (
      image &&
      readWithBlobs(image, this.blobs).catch(async () => {
        // Looked at again: it may even have been loaded again.
        const [again] = groupByImage(await this.names.allOfDigest(image.digest))
        return again && readWithBlobs(again, this.blobs)
      })
    )
  }
}

/** What a dry run of a prune takes for removed. */
export interface Without {
  /** Images that have no tag in any repository. */
  readonly images: ReadonlySet<Digest>
  /** Keys of the records of manifests that are no images: another repository may need the same. */
  readonly manifests: ReadonlySet<string>
}

const NOTHING: Without = { images: new Set(), manifests: new Set() }

/** A manifest of a repository, without a tag there. */
export interface UntaggedManifest {
  readonly repository: Repository
  readonly digest: Digest
}

/** Two names with the same content need the same blobs: the lists of parts of two can differ. */
function contentOf({ digest, whole }: RecordedManifest): string {
  return whole ? `${digest} ${digestOf(Buffer.from(JSON.stringify(whole)))}` : digest
}
