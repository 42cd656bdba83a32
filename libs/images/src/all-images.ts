import { atMostOf, type StrataError } from '@strata/base'
import { diffIdsOf, digestOf, type DiffId, type Digest, type Repository } from '@strata/oci'
import { keys, type BlobStore, type Told, type Unreadable } from '@strata/store'
import { isPlain, recordOf, type Image, type RecordedManifest } from './image.js'
import type { ReadImage } from './manifest.js'
import type { DamagedName, NameEntry, PlainEntry } from './name-entry.js'
import { groupByImage, textOfName } from './named-images.js'
import type { Names } from './names.js'
import { readImage } from './read-image.js'
import { referencesOf, type RecordReferences } from './references.js'
import { isOfOneManifest } from './repositories/stops.js'

/** Names whose manifests are read at the same time. */
const AT_ONCE = 8
/** Layers of one image that are looked for at the same time. */
const LAYERS_AT_ONCE = 16

/**
 * What is said of all images at once. Each method makes one pass over the names, page by page, and
 * holds no list of them:
 *
 * | method | reads | holds |
 * | --- | --- | --- |
 * | `count` | keys of marks, no name | the marks of one image |
 * | `untagged` | each name once | the digests of each image |
 * | `untaggedManifests` | each name once | the digests of one repository's manifests, and what it gives |
 * | `stacks` | each name of an image once, and each image's manifest and config | one image |
 * | `usage` | each name of an image once, and each image's manifests | the digest of each blob |
 * | `references` | each name once, and each manifest once for each repository that has it | the digests of one repository's manifests |
 *
 * An image that is removed during a pass may be given or left out. A name or image that cannot be
 * read does not stop a pass: each method says what it does then.
 */
export class AllImages {
  constructor(
    private readonly names: Names,
    private readonly blobs: BlobStore,
    private readonly takesSparse: boolean,
  ) {}

  /** See `Names.count`. */
  async count(): Promise<number> {
    return this.names.count()
  }

  /**
   * Every blob that an image or another manifest refers to, some of them more than once. For the
   * collector: what cannot be read is reported to `told`, and nothing else is left out. `without`
   * is what a dry run treats as removed.
   *
   * A name that is set or moved during the pass may be missed. Its writer holds all blobs under a
   * lease that began after the collector looked at the blobs' records, or that the collector has
   * seen alive.
   */
  async *references(without: Without = NOTHING, told: Told = TO_NOBODY): AsyncGenerator<Digest> {
    const all = atMostOf(AT_ONCE, this.#toRead(without, told), async (entry) => ({
      entry,
      found: await this.#referencesOf(entry),
    }))
    for await (const { entry, found } of all) {
      const { repository } = entry.name
      if ('damage' in found) {
        told.unreadable(unreadableName(found))
        continue
      }
      for (const digest of found.blobs.keys()) {
        if (repository !== undefined) told.had(repository, digest)
        yield digest
      }
      if (found.unreadable) told.unreadable(unreadableManifest(entry, found.unreadable))
    }
  }

  /** The names whose manifests are to be read: one of each group with the same content. */
  async *#toRead(without: Without, told: Told): AsyncGenerator<NameEntry | PlainEntry> {
    let current: Repository | undefined
    let seen = new Set<string>()
    for await (const entry of this.names.walk()) {
      if ('damage' in entry) {
        told.unreadable(unreadableName(entry))
        continue
      }
      const { repository } = entry.name
      const record = recordOf(entry)
      const isAbsent = isPlain(record) ? without.manifests.has(entry.key) : without.images.has(record.digest)
      // If an index lacks this manifest, the index is updated before the manifest's entry ends
      // (`Manifests.retire`), and then refers to it.
      if (isAbsent && !(repository && (await this.names.isLacked(repository, record.digest)))) continue
      if (repository !== current) seen = new Set()
      current = repository
      const content = contentOf(record)
      if (seen.has(content)) continue
      seen.add(content)
      yield entry
    }
  }

  /**
   * The layers of every image, lowest first. `without`: images to leave out. An image that cannot
   * be read is left out, too: a node makes what it has of an image again when that is launched.
   */
  async *stacks(without: ReadonlySet<Digest> = new Set()): AsyncGenerator<readonly DiffId[]> {
    for await (const { digest, entries } of this.names.byImage()) {
      const read = without.has(digest) ? undefined : await this.#read(digest, entries)
      if (read) yield diffIdsOf(read.config)
    }
  }

  /**
   * How many images there are, how many of them are used, and the bytes of their blobs, each
   * counted once; `reclaimable` are those of blobs that no used image has. Of an image that cannot
   * be read it counts what it can. A layer that may be missing is looked for, once.
   */
  async usage(
    isUsed: (image: Image) => boolean,
  ): Promise<{ total: number; active: number; bytes: number; reclaimable: number }> {
    const counted = new Set<Digest>()
    const used = new Set<Digest>()
    let [total, active, bytes, activeBytes] = [0, 0, 0, 0]
    for await (const { digest, entries } of this.names.byImage()) {
      const found = await this.#measured(digest, entries)
      if (!found) continue
      const isActive = isUsed(found.image)
      total++
      if (isActive) active++
      const wanted = [...found.blobs].filter(([digest]) => !counted.has(digest) || (isActive && !used.has(digest)))
      const sizes = atMostOf(LAYERS_AT_ONCE, wanted, async ([digest, said]) => ({
        digest,
        size: found.mayLack.has(digest) ? ((await this.blobs.stat(digest))?.size ?? 0) : said,
      }))
      for await (const { digest, size } of sizes) {
        if (!counted.has(digest)) bytes += size
        if (isActive && !used.has(digest)) activeBytes += size
        counted.add(digest)
        if (isActive) used.add(digest)
      }
    }
    // The size of a layer that never came is any that its manifest says.
    const exact = (sum: number): number => Math.min(sum, Number.MAX_SAFE_INTEGER)
    return { total, active, bytes: exact(bytes), reclaimable: exact(bytes - activeBytes) }
  }

  /**
   * The images without a tag: what docker calls dangling. An image that an index names may be among
   * them: without its own entry it stays as a part of the index (`lookBelow`).
   *
   * A tag that cannot be read may stand for any image of its repository. So the images of that
   * repository are left out.
   */
  async untagged(): Promise<Pick<Image, 'id' | 'digest'>[]> {
    const tagged = new Set<Digest>()
    const untagged = new Map<Digest, Pick<Image, 'id' | 'digest'>>()
    const hidden = new Set<Repository>()
    for await (const entry of this.names.walk()) {
      const { repository, tag } = entry.name
      if ('damage' in entry) {
        if (tag !== undefined) hidden.add(repository)
        continue
      }
      if (!('image' in entry)) continue
      const { id, digest } = entry.image
      if (tag) {
        tagged.add(digest)
        untagged.delete(digest)
      } else if (!tagged.has(digest)) untagged.set(digest, { id, digest })
    }
    for (const repository of hidden)
      for (const digest of [...untagged.keys()])
        if (await this.names.look(keys.imageDigest(repository, digest))) untagged.delete(digest)
    return [...untagged.values()]
  }

  /**
   * The manifests that are no images, were kept for a tag, and have no tag in their repository.
   * Left out are manifests with a subject (the list of referrers shows them), and the manifests of
   * a repository with a tag that cannot be read. A manifest that an index names may be among them:
   * see `untagged`.
   */
  async untaggedManifests(): Promise<UntaggedManifest[]> {
    const found: UntaggedManifest[] = []
    let repository: Repository | undefined
    let untagged = new Set<Digest>()
    const hidden = new Set<Repository>()
    const finish = (): void => {
      const of = repository
      if (of !== undefined && !hidden.has(of))
        found.push(...[...untagged].map((digest) => ({ repository: of, digest })))
      untagged = new Set()
    }
    for await (const entry of this.names.walk()) {
      if (entry.name.repository !== repository) finish()
      repository = entry.name.repository
      if ('damage' in entry) {
        if (entry.name.tag !== undefined && repository !== undefined) hidden.add(repository)
        continue
      }
      const record = recordOf(entry)
      // A repository's manifests come before its tags.
      if (entry.name.tag !== undefined) untagged.delete(record.digest)
      else if (isPlain(record) && record.kept === 'tag' && !record.attached) untagged.add(record.digest)
    }
    finish()
    return found
  }

  /** All that one name needs. Nothing if it was removed, or moved, since it was listed. */
  async #referencesOf(entry: NameEntry | PlainEntry): Promise<RecordReferences | DamagedName> {
    const record = recordOf(entry)
    const found = await referencesOf(record, this.blobs)
    if (!found.unreadable) return found
    const again = await this.names.look(entry.key)
    if (again && 'damage' in again) return again
    if (!again || recordOf(again).digest !== record.digest) return NO_REFERENCES
    return referencesOf(recordOf(again), this.blobs)
  }

  /**
   * The image that has these names. If none of them stands any more, they are looked up again: the
   * image may have got another name, and lost the ones that were listed.
   */
  async #imageOf(digest: Digest, entries: readonly NameEntry[] = []): Promise<Image | undefined> {
    return groupByImage(entries.length > 0 ? entries : await this.names.allOfDigest(digest))[0]
  }

  /** The image that has these names, and its blobs. Nothing if it was removed since. */
  async #measured(
    digest: Digest,
    entries: readonly NameEntry[],
  ): Promise<({ readonly image: Image } & Omit<RecordReferences, 'unreadable'>) | undefined> {
    const image = await this.#imageOf(digest, entries)
    if (!image) return undefined
    const found = await referencesOf(image, this.blobs, this.takesSparse)
    if (!found.unreadable) return { image, ...found }
    // Looked at again: it may even have been loaded again.
    const again = await this.#imageOf(digest)
    return again && { image: again, ...(await referencesOf(again, this.blobs, this.takesSparse)) }
  }

  /** The image that has these names. Nothing if it cannot be read. */
  async #read(digest: Digest, entries: readonly NameEntry[]): Promise<ReadImage | undefined> {
    const image = await this.#imageOf(digest, entries)
    if (!image) return undefined
    try {
      return await readImage(image, this.blobs)
    } catch (error) {
      if (!isOfOneManifest(error)) throw error
    }
    // Looked at again: it may have been loaded again.
    const again = await this.#imageOf(digest)
    return (
      again &&
      readImage(again, this.blobs).catch((error: unknown) => {
        if (!isOfOneManifest(error)) throw error
        return undefined
      })
    )
  }
}

/** What a dry run of a prune treats as removed. */
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

const TO_NOBODY: Told = { had: () => undefined, unreadable: () => undefined }
const NO_REFERENCES: RecordReferences = { blobs: new Map(), mayLack: new Set(), unreadable: undefined }

function unreadableName({ name, damage }: DamagedName): Unreadable {
  return {
    name: textOfName(name),
    reason: damage.message,
    repository: name.repository,
    refersTo: 'any blob',
  }
}

function unreadableManifest(entry: NameEntry | PlainEntry, error: StrataError): Unreadable {
  const name = textOfName(entry.name)
  return {
    name,
    reason: `what ${name} refers to cannot be read: ${error.message}: load or push it again, or remove it (strata rmi ${name})`,
    repository: entry.name.repository,
    refersTo: 'blobs of its repository',
    ...('image' in entry ? { surely: entry.image.id } : {}),
  }
}

/**
 * Names with the same content need the same blobs. Two names of one index can list different parts.
 */
function contentOf({ digest, whole }: RecordedManifest): string {
  return whole ? `${digest} ${digestOf(Buffer.from(JSON.stringify(whole)))}` : digest
}
