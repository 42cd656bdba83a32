import { failpoint, StrataError, type ErrorCode } from '@strata/base'
import {
  digestOf,
  expectConfig,
  familiarReference,
  formatPlatform,
  matchesPlatform,
  MAX_JSON_BYTES,
  parseTagged,
  platformOf,
  type Digest,
  type Platform,
  type Reference,
  type Repository,
} from '@strata/oci'
import { BlobStore, keys, Leases, type LeaseRun, type ObjectStore } from '@strata/store'
import { AllImages, type UntaggedManifest } from './all-images.js'
import { readContents, type ImageContents } from './contents.js'
import {
  isPlain,
  withoutDocuments,
  type Image,
  type ImageDetails,
  type NamedImage,
  type RecordedManifest,
  type Whole,
} from './image.js'
import { blobsOf, historyOf, layersOf, readManifest, readRoot, type ReadImage } from './manifest.js'
import { groupByImage, namesOf } from './named-images.js'
import { Names } from './names.js'
import { ifNotFound, readImage, readWithBlobs, type WithBlobs } from './read-image.js'
import { removeImage, type Removal, type Removed } from './remove.js'
import { OldTags } from './repositories/old-tags.js'
import { holdAll } from './repositories/manifest-holds.js'
import { Repositories } from './repositories/repositories.js'
import { Upkeep } from './repositories/upkeep.js'
import { findById, meaningOf, notFound, type Meaning } from './resolve.js'
import { underLease } from './under-lease.js'
import { blobsOfWhole, readWhole } from './whole.js'

/**
 * Images by name: a view on `Repositories`. A name of an image is a tag whose manifest is an image
 * that can be launched, or an index with one. What is loaded is in the repositories of its names.
 * Manifests that are no image, and those that a client has put only by their digest, are in no
 * list.
 *
 * `images/` holds names only, each a record that carries the image's ids and sizes; manifests,
 * configs and layers are blobs.
 *
 * An image exists as long as it has a name: a tag, or an entry by digest. A lease that sets a name
 * holds everything that the image consists of, and lives until the name is visible. So no name ever
 * stands for an image that was collected.
 */
export class Images {
  readonly #names: Names
  readonly #blobs: BlobStore
  readonly #leases: Leases
  readonly #repositories: Repositories
  /** What is said of all images at once. */
  readonly all: AllImages
  readonly #upkeep: Upkeep

  /** `takesSparse`: as of `Repositories`. What is loaded has all of its layers anyhow. */
  constructor(
    store: ObjectStore,
    private readonly options: { readonly takesSparse: boolean } = { takesSparse: false },
  ) {
    const { takesSparse } = options
    this.#names = new Names(store)
    this.#blobs = new BlobStore(store)
    this.#leases = new Leases(store)
    const oldTags = new OldTags(store, this.#names)
    this.#repositories = new Repositories(store, { names: this.#names, oldTags, takesSparse })
    this.all = new AllImages(this.#names, this.#blobs, takesSparse)
    this.#upkeep = new Upkeep(store, this.#names, this.#repositories, oldTags)
  }

  /**
   * Adds an image: its manifest (the bytes to keep) becomes a blob, then the names are set, each by
   * compare-and-set. Without names it is kept by its digest. Config and layers must be in the
   * store. `digest` is given if the manifest has another one than its sha256. Two runs, also at the
   * same time, have the same result.
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
    await this.#setNames(names, { ...read, ...blobsOf(read) }, run)
    return read.image
  }

  /**
   * Adds a multi-platform image with everything attached to it. Its names stand for `root`: an
   * index, or the image's manifest if the image only has attachments. Everything that `whole`
   * names, and everything that those name, must be in the store.
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
    const unsized: Image = { ...meant, digest, ...readRoot(root), manifestSize: root.length, whole }
    const contents = await readWhole(unsized, this.#blobs).catch((error: unknown) => {
      throw ifNotFound(error, 'layer_missing', 'the image is incomplete')
    })
    const parts = whole.parts.map((part) => {
      const subject = contents.subjects.get(part.digest)
      return subject === undefined ? part : { ...part, subject }
    })
    const image = {
      ...unsized,
      size: contents.layers.reduce((sum, layer) => sum + layer.size, 0),
      whole: { ...whole, parts },
    }
    await this.#setNames(names, { image, ...blobsOfWhole(image, contents) }, run)
    return image
  }

  /**
   * A page of all images, one row each, with all its names: at most `limit`. Pages follow the order
   * of the digests, so that a page reads the names of its own images only. Within a page named
   * images come first, then the newest. `next` is there if more may follow: pass it as `after`. An
   * image that is there from before the first page until after the last is in exactly one of them.
   */
  async page(
    limit: number,
    after?: Digest,
  ): Promise<{ readonly images: readonly NamedImage[]; readonly next?: Digest }> {
    const { groups, ...rest } = await this.#names.page(after, limit)
    return { images: groupByImage(groups.flat()), ...rest }
  }

  /**
   * Brings what an older version wrote into the form that look-ups rely on (`Upkeep`), once for
   * each store and after a loss of power. For the start of the storage service. It may die at any
   * line: the note that all is done is written last.
   */
  async markNames(): Promise<void> {
    await this.#upkeep.begin()
  }

  /**
   * As `markNames`, for what services of an older version and dead processes have left since. For
   * the collection.
   */
  async tidyNames(): Promise<void> {
    await this.#upkeep.tidy()
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
   * The parts of the image that `text` means. Of a multi-platform image these are the parts of all
   * platforms, or of `platform` if it is given. `name` is set if `text` is a tag. Then no other
   * name is read.
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
      // The record of a multi-platform image names its platforms.
      if (platform && !image.whole) expectPlatform(await readImage(image, this.#blobs), platform)
      return { ...(await readContents(image, this.#blobs, platform)), name }
    } catch (error) {
      throw ifNotFound(error, 'corrupt', `image ${image.digest} is incomplete`)
    }
  }

  /**
   * The layers of the image that `text` means, lowest first, and the steps that made them. Reads no
   * other name.
   * @throws as `inspect`
   */
  async layers(text: string): Promise<Pick<ImageDetails, 'layerList' | 'history'>> {
    const read = await this.reading(text, async () => readImage(await this.resolve(text), this.#blobs))
    return { layerList: layersOf(read), history: historyOf(read) }
  }

  /**
   * Runs `work`, which reads the images that `texts` mean. Nothing holds an image for a reader: if
   * a part is missing, the image may have been removed meanwhile, or its name moved. If an image
   * was removed, this throws `image_not_found`. Otherwise it runs `work` once more, with what the
   * names mean now.
   * @throws what `work` throws; `image_not_found` if one of the images was removed
   */
  async reading<T>(texts: string | readonly string[], work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof StrataError && MISSING.has(error.code))) throw error
      for (const text of [texts].flat()) {
        await this.resolve(text).catch((gone: unknown) => {
          if (!(gone instanceof StrataError && gone.code === 'image_not_found')) throw gone
          const what = `the image ${JSON.stringify(text.slice(0, 300))} was removed meanwhile`
          throw new StrataError('image_not_found', what, { cause: error })
        })
      }
      return work()
    }
  }

  async #find(text: string): Promise<{ readonly image: Image; readonly name: Reference | undefined }> {
    const meaning = meaningOf(text)
    const { name } = meaning
    if (name && !name.digest && name.tag) {
      const record = await this.#names.read(keys.tag(name.repository, name.tag))
      if (record) return { image: expectImage(record, text), name }
    }
    const found = name?.digest ? await this.#inRepository(name.repository, name.digest) : await this.#findById(meaning)
    if (!found) throw notFound(text)
    return { image: found, name: undefined }
  }

  async #inRepository(repository: Repository, digest: Digest): Promise<Image | undefined> {
    const found = await this.#repositories.manifests.tagged(repository, digest)
    return found && expectImage(found.tagged, digest)
  }

  /**
   * The image of an id. A multi-platform image has all parts that any of its names lists: their
   * lists can differ.
   */
  async #findById(meaning: Meaning): Promise<Image | undefined> {
    const image = (await findById(this.#names, meaning))?.image
    return image?.whole ? groupByImage(await this.#names.allOfDigest(image.digest))[0] : image
  }

  /**
   * Everything about an image, with its names. Of a multi-platform image it describes `platform`,
   * or, without it, the platform that is used by default.
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
    const read = await readImage(image, this.#blobs, platform)
    if (platform) expectPlatform(read, platform)
    const details = { ...read.image, config: read.config, layerList: layersOf(read), history: historyOf(read) }
    return { details, name }
  }

  /**
   * Gives the image that `source` names one more name. The image that had this name stays, without
   * it. If the lease was taken for dead because this process stood still for long, this begins
   * again, unless the client has left (`left`).
   * @throws as `resolve`; `bad_request` if the name has a digest; `upload_interrupted` if the lease
   * was taken for dead and the client has left
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
    const { takesSparse } = this.options
    await underLease(this.#leases, async (run) =>
      this.#setNames([target], await readWithBlobs(image, this.#blobs, takesSparse), run, { staysDeleted: true }),
    )
    return image
  }

  /** docker's `rmi`: see `removeImage`. */
  async remove(removal: Removal): Promise<Removed> {
    return removeImage(this.#names, this.#repositories.manifests, removal)
  }

  /**
   * Removes the image's entries by digest and no tags. An image that got a tag meanwhile stays
   * under that tag. Reads the names of that image only. `false`: one of them stays.
   */
  async removeUntagged(digest: Digest): Promise<boolean> {
    const { manifests } = this.#repositories
    let areGone = true
    for await (const entry of this.#names.ofDigest(digest))
      if (!entry.name.tag && !(await manifests.retire(entry))) areGone = false
    return areGone
  }

  /** Removes a manifest that is no image, if it is still without a tag (`AllImages`). */
  async removeUntaggedManifest({ repository, digest }: UntaggedManifest): Promise<void> {
    const entry = await this.#names.look(keys.imageDigest(repository, digest))
    if (entry && 'manifest' in entry && entry.manifest.kept === 'tag') await this.#repositories.manifests.retire(entry)
  }

  async #readManifest(digest: Digest): Promise<ReadImage> {
    return readManifest(digest, await this.#blobs.read(digest, MAX_JSON_BYTES), this.#blobs)
  }

  /**
   * Sets the names of the image, and adds its blobs to their repositories. Without names it is kept
   * by its digest. The image that had a tag before stays in its repository by its digest, so it is
   * never without a name. A superseded run sets no name any more (`Leases`): another run has
   * finished the upload, and later changes of the name are newer.
   * `staysDeleted`: nobody has brought bytes. What a client has deleted stays deleted in a
   * repository that has the manifest (`RepositoryBlobs.add`).
   */
  async #setNames(
    names: readonly Reference[],
    { image, blobs, mayLack }: Pick<WithBlobs, 'image' | 'blobs' | 'mayLack'>,
    run: LeaseRun,
    { staysDeleted = false } = {},
  ): Promise<void> {
    const { manifests, tags, blobs: repositoryBlobs } = this.#repositories
    const held = await holdAll(this.#blobs, [...blobs.keys()], image.digest, run, { mayLack })
    for (const repository of new Set(names.map((name) => name.repository))) {
      // Where the manifest is new, a tag does what a mount does: the repository gets its blobs.
      const isThere = staysDeleted && (await this.#mayHave(repository, image.digest))
      await repositoryBlobs.add(repository, withoutDocuments(image, held), run.lease, { staysDeleted: isThere })
    }
    for (const { repository, tag } of names.length > 0 ? names : [NAMELESS])
      if (repository !== undefined && tag !== undefined) await tags.point(repository, tag, image, run, { staysDeleted })
      else {
        await manifests.keep(repository, image, run)
        failpoint('load.name-set')
      }
  }

  /** Whether a repository has a manifest, or a damaged record of it. */
  async #mayHave(repository: Repository, digest: Digest): Promise<boolean> {
    try {
      return await this.#repositories.manifests.has(repository, digest)
    } catch (error) {
      if (error instanceof StrataError && error.code === 'corrupt') return true
      throw error
    }
  }
}

const NAMELESS = { repository: undefined, tag: undefined } as const

/** @throws StrataError `not_an_image` */
function expectImage(record: RecordedManifest, text: string): Image {
  if (!isPlain(record)) return record
  const what = record.attached?.artifactType ?? record.mediaType
  throw new StrataError(
    'not_an_image',
    `${JSON.stringify(text.slice(0, 300))} is no image that can be launched: its manifest is ${what}`,
  )
}

/** The errors that report a missing part of an image. */
const MISSING: ReadonlySet<ErrorCode> = new Set(['not_found', 'corrupt', 'layer_missing'])

function expectPlatform({ image, config }: ReadImage, wanted: Platform): void {
  if (image.whole || matchesPlatform(platformOf(config), wanted)) return
  throw new StrataError(
    'unsupported',
    `the image ${image.digest} is for ${formatPlatform(platformOf(config))}, not for ${formatPlatform(wanted)}`,
  )
}
