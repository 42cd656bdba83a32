import { randomUUID } from 'node:crypto'
import { failpoint, StrataError, type ErrorCode } from '@strata/base'
import {
  diffIdsOf,
  digestOf,
  expectConfig,
  familiarReference,
  formatPlatform,
  matchesPlatform,
  MAX_JSON_BYTES,
  parseTagged,
  platformOf,
  type DiffId,
  type Digest,
  type Platform,
  type Reference,
  type Repository,
} from '@strata/oci'
import {
  BlobStore,
  CAS_ATTEMPTS,
  changedTooOften,
  HEARTBEAT_MS,
  keys,
  Leases,
  type ObjectStore,
  type LeaseRun,
} from '@strata/store'
import { readContents, type ImageContents } from './contents.js'
import type { Image, ImageDetails, NamedImage, Whole } from './image.js'
import { blobsOf, historyOf, layersOf, mediaTypeOf, readManifest, type ReadImage } from './manifest.js'
import { groupByImage, keyOfName, Names, namesOf, type NameEntry } from './names.js'
import { removeImage, type Removal, type Removed } from './remove.js'
import { findById, meaningOf, notFound, type Meaning } from './resolve.js'
import { blobsOfWhole, manifestFor, readWhole, unitedRecord } from './whole.js'

/**
 * Images by name, over the store: `images/` holds names only, each a record that carries the
 * image's ids and sizes; manifests, configs and layers are blobs.
 *
 * An image is there as long as a name of it is: a tag, or an entry by digest. Whoever writes a name
 * holds everything that the image is made of for an upload that lives until the name is visible; so
 * no name ever stands for an image that the collector has taken.
 */
export class Images {
  readonly #names: Names
  readonly #blobs: BlobStore
  readonly #leases: Leases

  constructor(store: ObjectStore) {
    this.#names = new Names(store)
    this.#blobs = new BlobStore(store)
    this.#leases = new Leases(store)
  }

  /**
   * Adds an image: its manifest (bytes as they are to be kept) as a blob, then the names, each by
   * compare-and-set. Without names it is kept by its digest. Config and layers must be in the
   * store. `digest` where the manifest came under another than its sha256. Run twice or side by
   * side it ends the same.
   * @throws StrataError `not_an_image`, `layer_missing`, `limit_exceeded`, `upload_interrupted`
   */
  async put(
    manifest: Uint8Array,
    names: readonly Reference[],
    run: LeaseRun,
    digest = digestOf(manifest),
  ): Promise<Image> {
    const read = await readManifest(digest, manifest, this.#blobs).catch((error: unknown) => {
      throw ifNotFound(error, 'layer_missing', 'the image has no config')
    })
    expectConfig(read.config, `the config of image ${digest}`)
    await this.#blobs.add(digest, manifest, run.lease)
    failpoint('load.manifest-written')
    await this.#holdAll({ ...read, blobs: blobsOf(read) }, run.lease)
    for (const name of names.length > 0 ? names : [undefined]) await this.#setName(name, read.image, run)
    return read.image
  }

  /**
   * Adds an image with all of its platforms and what is attached to it: `root` is what its names
   * stand for, an index, or the image's manifest where that has attachments only. All that `whole`
   * names, and what that names, must be in the store.
   * @throws as `put`
   */
  async putWhole(
    root: Uint8Array,
    whole: Whole,
    names: readonly Reference[],
    run: LeaseRun,
    digest = digestOf(root),
  ): Promise<Image> {
    const { image: meant, config } = await this.#readManifest(whole.manifest)
    expectConfig(config, `the config of image ${whole.manifest}`)
    await this.#blobs.add(digest, root, run.lease)
    failpoint('load.manifest-written')
    const unsized: Image = { ...meant, digest, mediaType: mediaTypeOf(root), manifestSize: root.length, whole }
    const contents = await readWhole(unsized, this.#blobs).catch((error: unknown) => {
      throw ifNotFound(error, 'layer_missing', 'the image is incomplete')
    })
    const image = { ...unsized, size: contents.layers.reduce((sum, layer) => sum + layer.size, 0) }
    await this.#holdAll({ image, blobs: blobsOfWhole(image, contents) }, run.lease)
    for (const name of names.length > 0 ? names : [undefined]) await this.#setName(name, image, run)
    return image
  }

  /**
   * One row an image (a manifest's digest), with all its names: named ones first, newest first.
   * Reads names only.
   */
  async list(): Promise<NamedImage[]> {
    return groupByImage(await this.#names.all())
  }

  /**
   * A page of `list`: at most `limit` images. Pages follow the order of the digests, so that a page
   * reads the names of its own images only; rows of one page are sorted as `list` sorts. `next` is
   * there if more may follow: pass it as `after`. An image that is there from before the first page
   * until after the last is in exactly one of them.
   */
  async page(
    limit: number,
    after?: Digest,
  ): Promise<{ readonly images: readonly NamedImage[]; readonly next?: Digest }> {
    const { groups, ...rest } = await this.#names.page(after, limit)
    return { images: groupByImage(groups.flat()), ...rest }
  }

  /** `Names.markAll`, for the start of the storage service. */
  async markNames(): Promise<void> {
    await this.#names.markAll()
  }

  /** `Names.tidyMarks`, for the collection. */
  async tidyNames(): Promise<void> {
    await this.#names.tidyMarks()
  }

  /**
   * The image that `text` means: an id or digest in full, a name in short or full form (`latest`
   * understood), the unique beginning of an id. A name takes one read.
   * @throws StrataError `image_not_found`, `image_ambiguous`, `name_invalid`
   */
  async resolve(text: string): Promise<Image> {
    return (await this.#find(text)).image
  }

  /**
   * What the image that `text` means consists of, of one with several platforms all, or the one
   * asked for; and the name that was meant, if it was a tag's. Reads the manifest, and for a name
   * no other name.
   * @throws as `resolve`; `unsupported` if it is not for that platform; `corrupt` if its manifest
   * is gone or changed
   */
  async contents(text: string, platform?: Platform): Promise<ImageContents & { readonly name: Reference | undefined }> {
    return this.reading(text, () => this.#contents(text, platform))
  }

  async #contents(
    text: string,
    platform: Platform | undefined,
  ): Promise<ImageContents & { readonly name: Reference | undefined }> {
    const { image, name } = await this.#find(text)
    try {
      // Of one that is kept whole the record says for which it is.
      if (platform && !image.whole) expectPlatform(await this.#read(image), platform)
      return { ...(await readContents(image, this.#blobs, platform)), name }
    } catch (error) {
      throw ifNotFound(error, 'corrupt', `image ${image.digest} is incomplete`)
    }
  }

  /**
   * The layers of the image that `text` means, lowest first, and the steps that made them. Reads no
   * name but that.
   * @throws as `inspect`
   */
  async layers(text: string): Promise<Pick<ImageDetails, 'layerList' | 'history'>> {
    const read = await this.reading(text, async () => this.#read(await this.resolve(text)))
    return { layerList: layersOf(read), history: historyOf(read) }
  }

  /**
   * Does work that reads the image which `text` means. Nothing holds an image for a reader: where a
   * part of it is missing, it may have been removed meanwhile, or its name moved. Then that is what
   * is said, or the work is done once more, with what the name means now.
   * @throws what `work` throws; `image_not_found` if the image was removed
   */
  async reading<T>(text: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof StrataError && MISSING.has(error.code))) throw error
      const there = await this.resolve(text).catch((gone: unknown) => {
        if (!(gone instanceof StrataError && gone.code === 'image_not_found')) throw gone
      })
      if (there) return work()
      throw new StrataError(
        'image_not_found',
        `the image ${JSON.stringify(text.slice(0, 300))} was removed meanwhile`,
        {
          cause: error,
        },
      )
    }
  }

  async #find(text: string): Promise<{ readonly image: Image; readonly name: Reference | undefined }> {
    const meaning = meaningOf(text)
    const { name } = meaning
    if (name && !name.digest && name.tag) {
      const image = await this.#names.read(keys.tag(name.repository, name.tag))
      if (image) return { image, name }
    }
    const found = name?.digest ? await this.#inRepository(name.repository, name.digest) : await this.#findById(meaning)
    if (!found) throw notFound(text)
    return { image: found, name: undefined }
  }

  async #inRepository(repository: Repository, digest: Digest): Promise<Image | undefined> {
    for await (const entry of this.#names.ofDigest(digest)) if (entry.name.repository === repository) return entry.image
    return undefined
  }

  /** With all that any of its names says is here of it, which can differ for one kept whole. */
  async #findById(meaning: Meaning): Promise<Image | undefined> {
    const image = (await findById(this.#names, meaning))?.image
    return image?.whole ? groupByImage(await this.#names.allOfDigest(image.digest))[0] : image
  }

  /**
   * All of an image; of one with several platforms, of that one, or of the one that is meant
   * without.
   * @throws as `resolve`; `unsupported` if it is not for that platform; `corrupt` if its manifest
   * or config is gone or changed
   */
  async inspect(text: string, platform?: Platform): Promise<ImageDetails & NamedImage> {
    return this.reading(text, async () => {
      const { details, name } = await this.#details(text, platform)
      const names = namesOf(await this.#names.allOfDigest(details.digest))
      // A service of an older release writes names without marks: they get them at the next
      // collection. The name that was meant has been read, so it is known without one.
      const meant = name && familiarReference(name)
      return { ...details, names: meant && !names.includes(meant) ? [...names, meant].sort() : names }
    })
  }

  /**
   * As `inspect`, without the names: the number of store calls does not depend on how many the
   * image has.
   */
  async details(text: string): Promise<ImageDetails> {
    return this.reading(text, async () => (await this.#details(text, undefined)).details)
  }

  async #details(
    text: string,
    platform: Platform | undefined,
  ): Promise<{
    readonly details: ImageDetails
    readonly name: Reference | undefined
  }> {
    const { image, name } = await this.#find(text)
    const read = await this.#read(image, platform)
    if (platform) expectPlatform(read, platform)
    const details = { ...read.image, config: read.config, layerList: layersOf(read), history: historyOf(read) }
    return { details, name }
  }

  /**
   * Gives the image that `source` means one more name. The image that had it before stays, without
   * that name. Where it was silent for so long that it was taken for dead it begins again, unless
   * the one who asked has left: who waits for the answer has done nothing since.
   * @throws as `resolve`; `bad_request` if the name has a digest; `upload_interrupted` if it was
   * taken for dead and nobody waits
   */
  async tag(source: string, name: string, left?: AbortSignal): Promise<Image> {
    const target = parseTagged(name)
    if (target.digest)
      throw new StrataError('bad_request', `${JSON.stringify(name)} has a digest: a tag cannot be given to it`)
    for (;;) {
      try {
        return await this.#tagOnce(await this.resolve(source), target)
      } catch (error) {
        if (!(error instanceof StrataError && error.code === 'upload_interrupted') || left?.aborted) throw error
      }
    }
  }

  async #tagOnce(image: Image, target: Reference): Promise<Image> {
    const upload = randomUUID()
    const run = await this.#leases.create(upload, { job: { kind: 'tag', id: upload }, request: {} })
    const beat = setInterval(() => void this.#leases.touch(run).catch(() => undefined), HEARTBEAT_MS)
    let as: 'done' | 'failed' = 'failed'
    try {
      await this.#holdAll(await this.#readAll(image), upload)
      await this.#setName(target, image, run)
      as = 'done'
    } finally {
      clearInterval(beat)
      await this.#leases.endBy(run, as)
    }
    return image
  }

  /** docker's `rmi`: see `removeImage`. */
  async remove(removal: Removal): Promise<Removed> {
    return removeImage(this.#names, removal)
  }

  /**
   * Every blob that an image refers to, each once. For the collector, so it fails rather than leave
   * one out. `without`: manifests of images to leave out.
   * @throws StrataError `corrupt` if a name or a manifest cannot be read
   */
  async *references(without: ReadonlySet<Digest> = new Set()): AsyncGenerator<Digest> {
    const seen = new Set<Digest>()
    for await (const { blobs } of this.#all(() => this.#names.allOrNone(), without)) {
      for (const digest of blobs.keys()) {
        if (seen.has(digest)) continue
        seen.add(digest)
        yield digest
      }
    }
  }

  /**
   * The layers of every image, lowest first. `without` as above.
   * @throws StrataError `corrupt` if a name, manifest or config cannot be read
   */
  async *stacks(without: ReadonlySet<Digest> = new Set()): AsyncGenerator<readonly DiffId[]> {
    for await (const { config } of this.#all(() => this.#names.allOrNone(), without)) yield diffIdsOf(config)
  }

  /**
   * How many images there are, how many of them are used, and the bytes of their blobs, each
   * counted once; `reclaimable` are those of blobs that no used image has.
   */
  async usage(
    isUsed: (image: Image) => boolean,
  ): Promise<{ total: number; active: number; bytes: number; reclaimable: number }> {
    const sizes = new Map<Digest, number>()
    const used = new Set<Digest>()
    let [total, active] = [0, 0]
    for await (const { image, blobs } of this.#all(() => this.#names.all())) {
      const isActive = isUsed(image)
      total++
      if (isActive) active++
      for (const [digest, size] of blobs) {
        sizes.set(digest, size)
        if (isActive) used.add(digest)
      }
    }
    const bytesOf = (digests: Iterable<Digest>): number =>
      [...digests].reduce((sum, digest) => sum + (sizes.get(digest) ?? 0), 0)
    const bytes = bytesOf(sizes.keys())
    return { total, active, bytes, reclaimable: bytes - bytesOf(used) }
  }

  /**
   * The images without a tag that nobody uses: what docker calls dangling.
   * @throws StrataError `corrupt` if a name cannot be read: it may be the tag of any image
   */
  async untagged(inUse: (image: Image) => boolean): Promise<NamedImage[]> {
    const images = groupByImage(await this.#names.allOrNone())
    return images.filter((image) => image.names.length === 0 && !inUse(image))
  }

  /**
   * Takes the image's entries by digest away, and nothing else: one that was given a tag meanwhile
   * stays under that.
   * @throws StrataError `corrupt` as `untagged`
   */
  async removeUntagged(digest: Digest): Promise<void> {
    for (const entry of await this.#names.allOrNone())
      if (!entry.name.tag && entry.image.digest === digest) await this.#names.retire(entry)
  }

  /**
   * Every image read. One that was removed since it was listed is left out: its blobs may be gone.
   */
  async *#all(
    names: () => Promise<readonly NameEntry[]>,
    without: ReadonlySet<Digest> = new Set(),
  ): AsyncGenerator<WithBlobs> {
    for (const image of groupByImage(await names())) {
      if (without.has(image.digest)) continue
      const read = await this.#readAll(image).catch(async () => {
        // Looked at again: it may even have been loaded again.
        const isThere = groupByImage(await names()).find(({ digest }) => digest === image.digest)
        return isThere && this.#readAll(isThere)
      })
      if (read) yield read
    }
  }

  async #read(image: Image, platform?: Platform): Promise<ReadImage> {
    try {
      const read = await this.#readManifest(manifestFor(image, platform))
      const { digest, mediaType, manifestSize, size, whole } = image
      return whole ? { ...read, image: { ...read.image, digest, mediaType, manifestSize, size, whole } } : read
    } catch (error) {
      throw ifNotFound(error, 'corrupt', `image ${image.digest} is incomplete`)
    }
  }

  async #readManifest(digest: Digest): Promise<ReadImage> {
    return readManifest(digest, await this.#blobs.read(digest, MAX_JSON_BYTES), this.#blobs)
  }

  async #readAll(image: Image): Promise<WithBlobs> {
    const read = await this.#read(image)
    if (!image.whole) return { ...read, blobs: blobsOf(read) }
    try {
      return { ...read, blobs: blobsOfWhole(image, await readWhole(image, this.#blobs)) }
    } catch (error) {
      throw ifNotFound(error, 'corrupt', `image ${image.digest} is incomplete`)
    }
  }

  async #holdAll({ image, blobs }: Pick<WithBlobs, 'image' | 'blobs'>, upload: string): Promise<void> {
    for (const digest of blobs.keys())
      if (!(await this.#blobs.hold(digest, upload)))
        throw new StrataError('layer_missing', `image ${image.digest} needs blob ${digest}, which is not in the store`)
  }

  /**
   * Points a name at an image. What had the tag before gets an entry by digest first, so that it is
   * never without a name. A run that was superseded sets no name any more (`Leases`): the upload
   * was finished by another, and what was done to the name since is newer.
   */
  async #setName(name: Reference | undefined, image: Image, run: LeaseRun): Promise<void> {
    const key = keyOfName(name, image)
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const { image: before, found } = await this.#names.findToWrite(key)
      const isSame = before?.digest === image.digest
      const wanted = isSame ? unitedRecord(before, image) : image
      if (wanted === before) return
      if (before && name && !isSame) await this.#keepByDigest(name, before, run)
      // Only after the look at the name: see Leases.
      await this.#leases.announce(run, key)
      if (!(await this.#names.write(key, wanted, found))) continue
      failpoint('load.name-set')
      return
    }
    throw changedTooOften(key)
  }

  /**
   * Makes the entry by digest, if there is none. It stays also when the tag is then not moved:
   * another who moves it may have found the entry and count on it. (So an image that is removed
   * while its tag is moved may stay as `<none>`, whole.) An image that lacks blobs is left to go.
   */
  async #keepByDigest(name: Reference, image: Image, run: LeaseRun): Promise<void> {
    const key = keys.imageDigest(name.repository, image.digest)
    const { image: before, found } = await this.#names.findToWrite(key)
    const wanted = before ? unitedRecord(before, image) : image
    if (wanted === before) return
    try {
      await this.#holdAll(await this.#readAll(image), run.lease)
    } catch (error) {
      if (error instanceof StrataError && ['corrupt', 'layer_missing'].includes(error.code)) return
      throw error
    }
    await this.#leases.announce(run, key)
    await this.#names.write(key, wanted, found)
  }
}

/** What is said of a part of an image that is not there. */
const MISSING: ReadonlySet<ErrorCode> = new Set(['not_found', 'corrupt', 'layer_missing'])

/** An image with every blob that it consists of, and their sizes. */
interface WithBlobs extends ReadImage {
  readonly blobs: ReadonlyMap<Digest, number>
}

function expectPlatform({ image, config }: ReadImage, wanted: Platform): void {
  if (image.whole || matchesPlatform(platformOf(config), wanted)) return
  throw new StrataError(
    'unsupported',
    `the image ${image.digest} is for ${formatPlatform(platformOf(config))}, not for ${formatPlatform(wanted)}`,
  )
}

function ifNotFound(error: unknown, code: ErrorCode, what: string): unknown {
  return error instanceof StrataError && error.code === 'not_found'
    ? new StrataError(code, `${what}: ${error.message}`, { cause: error })
    : error
}
