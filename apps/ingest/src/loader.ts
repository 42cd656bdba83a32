import { buffer } from 'node:stream/consumers'
import { decodeListing, originOf, resolveArchive, type ArchiveImage, type ArchiveLayer, type ArchiveListing, type ArchiveOrigin, type ArchiveWhole, type BlobSource, type KeptBlob, type MadeBlob, type ResolveLimits } from '@strata/archive'
import type { Images, Whole } from '@strata/images'
import { digestOf, familiarReference, formatPlatform, MAX_JSON_BYTES, parsePlatform, step, StrataError, type Digest } from '@strata/oci'
import { QUEUES, type JobContext, type JobData, type JobResult, type LayerRef, type LoadReport, type NewJob } from '@strata/queue'
import { freshDataKey, keys, RECIPE_NAME, uploadInKey, type BlobStore, type ObjectStore, type Uploads } from '@strata/store'
import { makeManifest } from './manifest.js'
import { treeImage, treeLayer } from './tree.js'

type Load = JobData<'load'>
/** 100,000 entries with names of 4,096 bytes, doubled by JSON's escapes, at the worst. */
const MAX_LISTING_BYTES = 1024 * 1024 * 1024

/**
 * The `load` job: images of an upload whose bytes are in the store.
 *
 * Every step may be run again, also by another worker at the same time, and ends the same: blobs by compare-and-set, children by fixed
 * ids, names by compare-and-set. Names are set last, so that nothing is half-visible; from then on (`committing`) the load is finished, never ended.
 */
export class Loader {
  constructor(
    private readonly store: ObjectStore,
    private readonly blobs: BlobStore,
    private readonly uploads: Uploads,
    private readonly images: Images,
    private readonly limits: Partial<ResolveLimits> = {},
  ) {}

  async load(data: Load, context: JobContext): Promise<JobResult<'load'>> {
    return this.#endingBadly(data, context, () => this.#load(data, context))
  }

  /** The `import` job: the one image of a tree. First its layer is proven, for the config names it by its diffID; from there on it is a load of that image. */
  async import(data: JobData<'import'>, context: JobContext): Promise<JobResult<'import'>> {
    return this.#endingBadly(data, context, async () => {
      const { root, upload, name } = data
      context.signal.throwIfAborted()
      const layer = treeLayer(await this.#received(upload))
      const { digest, size } = layer.blob
      await this.#keepBlob(layer.blob, upload)
      step('load.blobs-committed')
      const diffId = layer.diffId ?? (await this.blobs.stat(digest))?.diffId
      if (diffId === undefined || !(await this.store.stat(keys.index(diffId)))) {
        await context.progress({ state: 'active', step: 'extracting' })
        await context.children([{ name: 'extract', queue: QUEUES.extract, id: `${root}-extract-0-${digest.slice(7, 19)}`, data: { root, layer: { digest, size, diffId } } }])
      }
      const proven = diffId ?? (await this.blobs.stat(digest))?.diffId
      if (proven === undefined) throw new StrataError('corrupt', `the layer ${digest} was unpacked, and its record does not say to what`)
      if (proven === digestOf('')) throw new StrataError('archive_invalid', 'the upload unpacks to nothing: a tar of nothing has two blocks of zeros')
      const recipe = await this.store.read(keys.data(upload, RECIPE_NAME), MAX_JSON_BYTES)
      if (!recipe) throw new StrataError('upload_interrupted', `the upload ${upload} is over: what it brought is gone`)
      return this.#commit([treeImage(recipe.bytes, layer, proven, name)], data, context)
    })
  }

  /** Where the load has failed, its holds count no more, it is answered, and what it brought goes: that no blob has it takes a look at every blob, which nobody waits for. */
  async #endingBadly<T>({ upload }: { readonly upload: string }, context: JobContext, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      // A load that waits for its layers gives up its worker by an error of the queue's own; only ours end the upload.
      if (!(error instanceof StrataError)) throw error
      await this.uploads.end(upload)
      await context.fail(error)
      await this.blobs.sweepUpload(upload)
      throw error
    }
  }

  async #load(data: Load, context: JobContext): Promise<JobResult<'load'>> {
    const { upload, name, platform } = data
    context.signal.throwIfAborted()
    const listing = await this.#received(upload)
    if (!context.resumed) await context.progress({ state: 'active', step: 'resolving' })
    const found = await resolveArchive(listing, (source) => this.#bytes(source), {
      ...this.limits,
      isKept: (digest, size) => this.#isKept(digest, size),
      ...(name === undefined ? {} : { name }),
      ...(platform === undefined ? {} : { platform: platform === 'all' ? platform : parsePlatform(platform) }),
    })
    step('load.listed', upload)
    return this.#commit(found, data, context, originOf(listing))
  }

  /** Images whose parts are known, from their blobs to their names. `origin`: of the archive that they came in. */
  async #commit(found: readonly ArchiveImage[], { root, upload, prepare }: Load, context: JobContext, origin?: ArchiveOrigin): Promise<JobResult<'load'>> {
    const { signal } = context
    const all = found.flatMap((image) => [image, ...(image.whole?.others ?? [])])
    for (const image of all) await this.#keepBlobs(image, upload, signal)
    for (const { whole } of found) for (const source of whole ? [whole.root, ...whole.documents, ...whole.blobs] : []) await this.#keepBlob(source, upload)
    step('load.blobs-committed')

    // The largest first: what is begun last ends last.
    const unproven = (await this.#unproven(uniqueLayers(all))).sort((one, other) => other.blob.size - one.blob.size)
    if (unproven.length > 0) await context.progress({ step: 'extracting' })
    const children: NewJob<'extract' | 'place'>[] = unproven.map((layer, index) => ({
      name: 'extract',
      queue: QUEUES.extract,
      id: `${root}-extract-${index}-${layer.blob.digest.slice(7, 19)}`,
      data: { root, layer: layerRef(layer) },
    }))
    await context.children(children)
    signal.throwIfAborted()

    const manifests = await Promise.all(found.map((image) => this.#manifestOf(image)))
    if (prepare) {
      await context.progress({ step: 'preparing' })
      await context.children(
        found.map((image, index) => ({
          name: 'place',
          queue: QUEUES.runtime,
          id: `${root}-prepare-${index}`,
          data: { root, purpose: 'assemble', image: { id: image.config.digest, digest: manifests[index]!.digest, layers: image.layers.map(layerRef) } },
        })),
      )
    }
    signal.throwIfAborted()

    await this.uploads.update(upload, (record) => ({ ...record, state: 'committing' }))
    step('load.committing')
    await context.progress({ step: 'naming' })
    const images: JobResult<'load'>['images'] = []
    for (const [index, image] of found.entries()) {
      const manifest = manifests[index]!
      const { id, digest } = image.whole
        ? await this.images.putWhole(await this.#rootOf(image.whole), wholeOf(image, image.whole), image.names, upload, image.whole.root.digest)
        : await this.images.put(manifest.bytes, image.names, upload, manifest.digest)
      images.push({ id, digest, names: image.names.map(familiarReference), layers: image.layers.length, ...platformsOf(image) })
    }
    const result = { images, ...(origin && { found: { ...origin, layers: await this.#tally(uniqueLayers(all), upload) } }) }
    await context.complete(result)
    step('load.completed')
    await this.uploads.end(upload)
    step('load.upload-ended')
    await this.blobs.sweepUpload(upload, [...digestsOf(all), ...images.map(({ digest }) => digest)])
    return result
  }

  /** A layer came new if its bytes are this upload's: so a second run says the same. */
  async #tally(layers: readonly ArchiveLayer[], upload: string): Promise<LoadReport['layers']> {
    const tally = { new: { count: 0, bytes: 0 }, known: { count: 0, bytes: 0 } }
    for (const { digest, size } of new Map(layers.map(({ blob }) => [blob.digest, blob])).values()) {
      const data = (await this.blobs.stat(digest))?.data ?? ''
      const kind = tally[uploadInKey(data) === upload ? 'new' : 'known']
      kind.count++
      kind.bytes += size
    }
    return tally
  }

  /** Config, manifest and layers become blobs, held for this upload. */
  async #keepBlobs(image: ArchiveImage, upload: string, signal: AbortSignal): Promise<void> {
    const layers = image.layers.map(({ blob }) => blob)
    for (const source of [image.config, ...(image.manifest ? [image.manifest] : []), ...layers]) {
      signal.throwIfAborted()
      await this.#keepBlob(source, upload)
    }
    for (const { blob, compression, diffId } of image.layers) if (compression === 'none') await this.blobs.prove(blob.digest, diffId)
  }

  /** A large entry is an object of its own and becomes the blob where it lies; a small one is cut out of the gathered ones. */
  async #keepBlob(source: BlobSource | MadeBlob | KeptBlob, upload: string): Promise<void> {
    if ('kept' in source) {
      if (await this.blobs.hold(source.digest, upload)) return
      throw new StrataError('layer_missing', `the layer ${source.digest} is not in the archive, and was removed here meanwhile`)
    }
    if ('bytes' in source) {
      await this.blobs.add(source.digest, source.bytes, upload)
      return
    }
    const { digest, size, at } = source
    if (await this.blobs.hold(digest, upload)) return
    const whole = at.offset === 0 && (await this.store.stat(at.object))?.size === size
    const data = whole ? at.object : freshDataKey(upload)
    if (!whole) {
      const found = await this.store.get(at.object, { start: at.offset, end: at.offset + size })
      if (!found) throw new StrataError('upload_interrupted', `the upload ${upload} is over: what it brought is gone`)
      await this.store.put(data, found.body)
    }
    await this.blobs.commit(digest, { data, size }, upload)
  }

  async #manifestOf(image: ArchiveImage): Promise<{ digest: Digest; bytes: Buffer }> {
    const bytes = image.manifest ? await this.#bytes(image.manifest) : makeManifest(image)
    return { digest: image.manifest?.digest ?? digestOf(bytes), bytes }
  }

  async #rootOf({ root }: ArchiveWhole): Promise<Buffer> {
    return 'bytes' in root ? root.bytes : this.#bytes(root)
  }

  async #isKept(digest: Digest, size: number): Promise<boolean> {
    return (await this.blobs.stat(digest))?.size === size
  }

  /** Layers that nobody has proven yet: the blob's diffID is not known, or is known and its index is not there. */
  async #unproven(layers: readonly ArchiveLayer[]): Promise<ArchiveLayer[]> {
    const proven = await Promise.all(
      layers.map(async ({ blob, diffId }) => {
        const known = (await this.blobs.stat(blob.digest))?.diffId
        if (known !== undefined && known !== diffId) throw new StrataError('digest_mismatch', `the layer ${blob.digest} unpacks to ${known}, but the image's config lists ${diffId}`)
        return known !== undefined && (await this.store.stat(keys.index(diffId))) !== undefined
      }),
    )
    return layers.filter((_, index) => !proven[index])
  }

  /** The list of what the upload brought. */
  async #received(upload: string): Promise<ArchiveListing> {
    const listing = (await this.uploads.get(upload))?.listing
    if (listing === undefined) throw new StrataError('upload_interrupted', `the upload ${upload} is over: what it brought is gone`)
    const found = await this.store.read(listing, MAX_LISTING_BYTES)
    if (!found) throw new StrataError('upload_interrupted', 'the list of what the upload brought is gone')
    return decodeListing(found.bytes)
  }

  async #bytes({ digest, size, at }: BlobSource): Promise<Buffer> {
    if (size > MAX_JSON_BYTES) throw new StrataError('limit_exceeded', `${digest} has ${size} bytes; the limit for JSON is ${MAX_JSON_BYTES}`)
    const found = await this.store.get(at.object, { start: at.offset, end: at.offset + size })
    if (!found) throw new StrataError('upload_interrupted', `what the upload brought is gone: ${digest}`)
    return buffer(found.body)
  }
}

/** Each layer once, however many images share it. */
function uniqueLayers(images: readonly ArchiveImage[]): ArchiveLayer[] {
  return [...new Map(images.flatMap(({ layers }) => layers).map((layer) => [`${layer.blob.digest} ${layer.diffId}`, layer])).values()]
}

/** Every blob that this load made or found: what of the upload's bytes they point to stays. */
function digestsOf(images: readonly ArchiveImage[]): Digest[] {
  return images.flatMap(({ config, manifest, layers, whole }) =>
    [config, ...(manifest ? [manifest] : []), ...layers.map(({ blob }) => blob), ...(whole ? [whole.root, ...whole.documents, ...whole.blobs] : [])].map(({ digest }) => digest),
  )
}

/** What the caller is told of an image of several platforms. */
function platformsOf({ platform, whole, missing }: ArchiveImage): { platforms?: string[]; missing?: string[] } {
  if (!whole) return {}
  return { platforms: [platform, ...whole.others.map((other) => other.platform)].map(formatPlatform), ...(missing ? { missing: [...missing] } : {}) }
}

/** What the image's names record of it. Every image of a layout has a manifest. */
function wholeOf(image: ArchiveImage, { others, documents }: ArchiveWhole): Whole {
  const images = [image, ...others].map(({ manifest, platform }) => ({ digest: manifest!.digest, platform: formatPlatform(platform) }))
  return { manifest: image.manifest!.digest, parts: [...images, ...documents.map(({ digest }) => ({ digest }))] }
}

function layerRef({ blob, diffId }: ArchiveLayer): LayerRef {
  return { digest: blob.digest, diffId, size: blob.size }
}
