import {
  originOf,
  resolveArchive,
  type ArchiveImage,
  type ArchiveLayer,
  type ArchiveOrigin,
  type ArchiveWhole,
  type ResolveLimits,
} from '@strata/archive'
import type { Images, Whole } from '@strata/images'
import { failpoint, StrataError } from '@strata/base'
import { digestOf, familiarReference, formatPlatform, MAX_JSON_BYTES, parsePlatform, type Digest } from '@strata/oci'
import { QUEUES, type JobContext, type JobData, type JobResult, type LayerRef, type NewJob } from '@strata/queue'
import {
  keys,
  RECIPE_NAME,
  type BlobStore,
  type ObjectStore,
  type Lease,
  type LeaseRun,
  type Leases,
} from '@strata/store'
import { ImageLayers } from './image-layers.js'
import { LeasedJobs, type Made } from './leased-jobs.js'
import { makeManifest } from './manifest.js'
import { ReceivedUpload, uniqueLayers } from './received-upload.js'
import { treeImage, treeLayer } from './tree.js'

type Load = JobData<'load'>

/**
 * The `load` job: images of an upload whose bytes are in the store.
 *
 * Every step may be run again, also by another worker at the same time, and ends the same: blobs by
 * compare-and-set, children by fixed ids, names by compare-and-set (`LeasedJobs` has the rest).
 * Names are set last, so that nothing is half-visible (`committing`).
 */
export class Loader {
  readonly #received: ReceivedUpload
  readonly #jobs: LeasedJobs

  constructor(
    private readonly store: ObjectStore,
    private readonly blobs: BlobStore,
    private readonly leases: Leases,
    private readonly images: Images,
    private readonly limits: Partial<ResolveLimits> = {},
    private readonly layers = new ImageLayers(store, blobs),
  ) {
    this.#received = new ReceivedUpload(store, blobs)
    this.#jobs = new LeasedJobs(blobs, leases)
  }

  async load(data: Load, context: JobContext): Promise<JobResult<'load'>> {
    const { upload } = data
    return this.#jobs.run({ upload, work: (run, record) => this.#load(data, context, run, record) }, context)
  }

  /**
   * The `import` job: the one image of a tree. First its layer is proven, for the config names it
   * by its diffID; from there on it is a load of that image.
   */
  async import(data: JobData<'import'>, context: JobContext): Promise<JobResult<'import'>> {
    const { root, upload, name } = data
    const work = async (run: LeaseRun, record: Lease): Promise<Made> => {
      context.signal.throwIfAborted()
      const layer = treeLayer(await this.#received.listing(record))
      const { digest, size } = layer.blob
      await this.#received.keep(layer.blob, upload)
      failpoint('load.blobs-committed')
      const diffId = layer.diffId ?? (await this.blobs.stat(digest))?.diffId
      if (diffId === undefined || !(await this.store.stat(keys.index(diffId)))) {
        await context.progress({ state: 'active', step: 'extracting' })
        await context.children([
          {
            name: 'extract',
            queue: QUEUES.extract,
            id: `${root}-extract-0-${digest.slice(7, 19)}`,
            data: { root, layer: { digest, size, diffId } },
          },
        ])
      }
      const proven = diffId ?? (await this.blobs.stat(digest))?.diffId
      if (proven === undefined)
        throw new StrataError('corrupt', `the layer ${digest} was unpacked, and its record does not say to what`)
      if (proven === digestOf(''))
        throw new StrataError(
          'archive_invalid',
          'the upload unpacks to nothing: a tar of nothing has two blocks of zeros',
        )
      const recipe = await this.store.read(keys.data(upload, RECIPE_NAME), MAX_JSON_BYTES)
      if (!recipe) throw new StrataError('upload_interrupted', `the upload ${upload} is over: what it brought is gone`)
      return this.#commit([treeImage(recipe.bytes, layer, proven, name)], data, context, run)
    }
    return this.#jobs.run({ upload, work }, context)
  }

  async #load(data: Load, context: JobContext, run: LeaseRun, record: Lease): Promise<Made> {
    const { name, platform } = data
    context.signal.throwIfAborted()
    const listing = await this.#received.listing(record)
    if (!context.resumed) await context.progress({ state: 'active', step: 'resolving' })
    const found = await resolveArchive(listing, (source) => this.#received.bytes(source), {
      ...this.limits,
      isKept: (digest, size) => this.#isKept(digest, size),
      ...(name === undefined ? {} : { name }),
      ...(platform === undefined ? {} : { platform: platform === 'all' ? platform : parsePlatform(platform) }),
    })
    failpoint('load.listed', context.id)
    return this.#commit(found, data, context, run, originOf(listing))
  }

  /**
   * Images whose parts are known, from their blobs to their names. `origin`: of the archive that
   * they came in.
   */
  async #commit(
    found: readonly ArchiveImage[],
    { root, upload, prepare }: Load,
    context: JobContext,
    run: LeaseRun,
    origin?: ArchiveOrigin,
  ): Promise<Made> {
    const { signal } = context
    const all = found.flatMap((image) => [image, ...(image.whole?.others ?? [])])
    const made = new Set<Digest>()
    for (const image of all) await this.#received.keepImage(image, upload, made, signal)
    for (const { whole } of found)
      if (whole) await this.#received.keepAll([whole.root, ...whole.documents, ...whole.blobs], upload, signal)
    failpoint('load.blobs-committed')

    // The largest first: what is begun last ends last.
    const refs = uniqueLayers(all).map((layer) => ({ ...layerRef(layer), isPlain: layer.compression === 'none' }))
    const unproven = (await this.layers.unproven(refs, ({ isPlain }) => isPlain)).sort(
      (one, other) => other.size - one.size,
    )
    if (unproven.length > 0) await context.progress({ step: 'extracting' })
    const children: NewJob<'extract' | 'place'>[] = unproven.map(({ digest, diffId, size }, index) => ({
      name: 'extract',
      queue: QUEUES.extract,
      id: `${root}-extract-${index}-${digest.slice(7, 19)}`,
      data: { root, layer: { digest, diffId, size } },
    }))
    await context.children(children)
    signal.throwIfAborted()
    await this.layers.expectRoom(all.map(roomOf))

    const manifests = await Promise.all(found.map((image) => this.#manifestOf(image)))
    if (prepare) {
      await context.progress({ step: 'preparing' })
      await context.children(
        found.map((image, index) => ({
          name: 'place',
          queue: QUEUES.runtime,
          id: `${root}-prepare-${index}`,
          data: {
            root,
            purpose: 'assemble',
            image: { id: image.config.digest, digest: manifests[index]!.digest, layers: image.layers.map(layerRef) },
          },
        })),
      )
    }
    signal.throwIfAborted()

    await this.leases.update(run, (record) => ({ ...record, state: 'committing' }))
    failpoint('load.committing')
    await context.progress({ step: 'naming' })
    const images: JobResult<'load'>['images'] = []
    for (const [index, image] of found.entries()) {
      const manifest = manifests[index]!
      const { id, digest } = image.whole
        ? await this.images.putWhole(
            await this.#rootOf(image.whole),
            wholeOf(image, image.whole),
            image.names,
            run,
            image.whole.root.digest,
          )
        : await this.images.put(manifest.bytes, image.names, run, manifest.digest)
      images.push({
        id,
        digest,
        names: image.names.map(familiarReference),
        layers: image.layers.length,
        ...platformsOf(image),
      })
    }
    const result = {
      images,
      ...(origin && { found: { ...origin, layers: await this.#received.tally(uniqueLayers(all), upload, made) } }),
    }
    await this.leases.named(run, result)
    failpoint('load.named')
    return { result, digests: [...digestsOf(all), ...images.map(({ digest }) => digest)] }
  }

  async #manifestOf(image: ArchiveImage): Promise<{ digest: Digest; bytes: Buffer }> {
    const bytes = image.manifest ? await this.#received.bytes(image.manifest) : makeManifest(image)
    return { digest: image.manifest?.digest ?? digestOf(bytes), bytes }
  }

  async #rootOf({ root }: ArchiveWhole): Promise<Buffer> {
    return 'bytes' in root ? root.bytes : this.#received.bytes(root)
  }

  async #isKept(digest: Digest, size: number): Promise<boolean> {
    return (await this.blobs.stat(digest))?.size === size
  }
}

/** Every blob that this load made or found: what of the upload's bytes they point to stays. */
function digestsOf(images: readonly ArchiveImage[]): Digest[] {
  return images.flatMap(({ config, manifest, layers, whole }) =>
    [
      config,
      ...(manifest ? [manifest] : []),
      ...layers.map(({ blob }) => blob),
      ...(whole ? [whole.root, ...whole.documents, ...whole.blobs] : []),
    ].map(({ digest }) => digest),
  )
}

/** What the caller is told of an image of several platforms. */
function platformsOf({ platform, whole, missing }: ArchiveImage): { platforms?: string[]; missing?: string[] } {
  if (!whole) return {}
  return {
    platforms: [platform, ...whole.others.map((other) => other.platform)].map(formatPlatform),
    ...(missing ? { missing: [...missing] } : {}),
  }
}

/** What the image's names record of it. Every image of a layout has a manifest. */
function wholeOf(image: ArchiveImage, { others, documents }: ArchiveWhole): Whole {
  const images = [image, ...others].map(({ manifest, platform }) => ({
    digest: manifest!.digest,
    platform: formatPlatform(platform),
  }))
  return { manifest: image.manifest!.digest, parts: [...images, ...documents.map(({ digest }) => ({ digest }))] }
}

/** In a sentence, and what of it takes memory. */
function roomOf({ layers, names, config }: ArchiveImage) {
  return {
    what: `the image ${names[0] ? familiarReference(names[0]) : config.digest}`,
    diffIds: layers.map(({ diffId }) => diffId),
  }
}

function layerRef({ blob, diffId }: ArchiveLayer): LayerRef {
  return { digest: blob.digest, diffId, size: blob.size }
}
