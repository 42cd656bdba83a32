import {
  expectIndexMemory,
  INDEX_MEMORY,
  originOf,
  resolveArchive,
  stackMemory,
  type ArchiveImage,
  type ArchiveLayer,
  type ArchiveOrigin,
  type ArchiveWhole,
  type ResolveLimits,
} from '@strata/archive'
import type { Images, Whole } from '@strata/images'
import { asStrataError, atMost, failpoint, StrataError } from '@strata/base'
import {
  digestOf,
  familiarReference,
  formatPlatform,
  MAX_JSON_BYTES,
  parsePlatform,
  type DiffId,
  type Digest,
} from '@strata/oci'
import {
  CONTRACTS,
  endsRunOnly,
  QUEUES,
  type JobContext,
  type JobData,
  type JobResult,
  type LayerRef,
  type NewJob,
} from '@strata/queue'
import {
  keys,
  RECIPE_NAME,
  type BlobStore,
  type ObjectStore,
  type Lease,
  type LeaseRun,
  type Leases,
} from '@strata/store'
import { makeManifest } from './manifest.js'
import { ReceivedUpload, uniqueLayers } from './received-upload.js'
import { treeImage, treeLayer } from './tree.js'

type Load = JobData<'load'>

/** Indexes of layers that are looked at at the same time. */
const AT_ONCE = 16

/**
 * The `load` job: images of an upload whose bytes are in the store.
 *
 * Every step may be run again, also by another worker at the same time, and ends the same: blobs by
 * compare-and-set, children by fixed ids, names by compare-and-set. Each run takes the upload over
 * (`Leases.begin`); one that was superseded sets no name and ends nothing.
 *
 * Names are set last, so that nothing is half-visible (`committing`). When all are set the upload
 * becomes `named`, with the result, and only then the request is answered. A run that finds it so
 * answers with that result and cleans up: it sets no name, for others may have changed them since.
 *
 * While the store is away a load can neither go on nor be ended, so it is put back, for a minute at
 * most. If it has failed then, the storage service ends the upload when the store is back, and does
 * not resume it: its client was told.
 */
export class Loader {
  readonly #received: ReceivedUpload

  constructor(
    private readonly store: ObjectStore,
    private readonly blobs: BlobStore,
    private readonly leases: Leases,
    private readonly images: Images,
    private readonly limits: Partial<ResolveLimits> = {},
    /** Bytes of memory for indexes that a process has, here and on every node. */
    private readonly indexMemory = INDEX_MEMORY,
  ) {
    this.#received = new ReceivedUpload(store, blobs)
  }

  async load(data: Load, context: JobContext): Promise<JobResult<'load'>> {
    return this.#worked(data, context, (run, upload) => this.#load(data, context, run, upload))
  }

  /**
   * The `import` job: the one image of a tree. First its layer is proven, for the config names it
   * by its diffID; from there on it is a load of that image.
   */
  async import(data: JobData<'import'>, context: JobContext): Promise<JobResult<'import'>> {
    return this.#worked(data, context, async (run, record) => {
      const { root, upload, name } = data
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
    })
  }

  /** One run of the job: what it does depends on the upload's state. */
  async #worked(
    data: Load,
    context: JobContext,
    work: (run: LeaseRun, upload: Lease) => Promise<Made>,
  ): Promise<JobResult<'load'>> {
    const { upload } = data
    let run: LeaseRun | undefined
    let made: Made | undefined
    try {
      await context.assertOwned()
      const begun = await this.leases.begin(upload)
      run = begun.run
      made =
        begun.lease.state === 'named'
          ? { result: CONTRACTS.load.result.parse(await this.leases.resultOf(begun.lease)) }
          : await work(run, begun.lease)
      await context.complete(made.result)
      failpoint('load.completed')
      if (!(await this.leases.endBy(run, 'done'))) return made.result
      failpoint('load.upload-ended')
      await this.blobs.deleteUnused(upload, made.digests)
      return made.result
    } catch (error) {
      if (endsRunOnly(error)) throw error
      const failure = asStrataError(error)
      // Named is done: what is left is to answer and to clean up, and the next run does that.
      return made ? this.#again(context, failure) : this.#failed(upload, run, context, failure)
    }
  }

  async #again(context: JobContext, failure: StrataError): Promise<never> {
    if (failure.code === 'store_unavailable') await context.progress({ step: 'waiting for the store' })
    return context.again(failure)
  }

  /**
   * The upload ends first, so that it sets no name after its client was told that it failed. What
   * it brought goes last: that no blob has it takes a look at every blob, which nobody waits for.
   */
  async #failed(upload: string, run: LeaseRun | undefined, context: JobContext, failure: StrataError): Promise<never> {
    await context.assertOwned()
    if (failure.code === 'store_unavailable') return this.#again(context, failure)
    let isEnded = true
    try {
      const found = run ? undefined : await this.leases.get(upload)
      if (run) isEnded = await this.leases.endBy(run, 'failed')
      else if (found) isEnded = await this.leases.endUnchanged(upload, found.etag)
    } catch (error) {
      return this.#again(context, asStrataError(error))
    }
    // A run that had lost the job took the upload over before it knew: this one has the job, and
    // begins anew.
    if (!isEnded) return this.#again(context, failure)
    await context.fail(failure)
    await this.blobs.deleteUnused(upload)
    throw failure
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
    await this.#expectRoom(all)

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

  /**
   * Layers that nobody has proven yet: the blob's diffID is not known, or is known and its index is
   * not there.
   */
  async #unproven(layers: readonly ArchiveLayer[]): Promise<ArchiveLayer[]> {
    const proven = await Promise.all(
      layers.map(async ({ blob, diffId, compression }) => {
        // That of a plain layer was noted when its blob was kept.
        const known = compression === 'none' ? diffId : (await this.blobs.stat(blob.digest))?.diffId
        if (known !== undefined && known !== diffId)
          throw new StrataError(
            'digest_mismatch',
            `the layer ${blob.digest} unpacks to ${known}, but the image's config lists ${diffId}`,
          )
        return known !== undefined && (await this.store.stat(keys.index(diffId))) !== undefined
      }),
    )
    return layers.filter((_, index) => !proven[index])
  }

  /** An image whose root no node could assemble gets no name. */
  async #expectRoom(images: readonly ArchiveImage[]): Promise<void> {
    const sizes = new Map<DiffId, number>()
    await atMost(AT_ONCE, uniqueLayers(images), async ({ diffId }) => {
      sizes.set(diffId, (await this.store.stat(keys.index(diffId)))?.size ?? 0)
    })
    for (const { layers, names, config } of images) {
      const what = `the image ${names[0] ? familiarReference(names[0]) : config.digest}`
      const bytes = layers.reduce((sum, { diffId }) => sum + (sizes.get(diffId) ?? 0), 0)
      expectIndexMemory(stackMemory(bytes), what, this.indexMemory)
    }
  }
}

/** What a run has come to when all names are set. */
interface Made {
  readonly result: JobResult<'load'>
  /** All blobs that the upload's bytes can have become, where this run knows them. */
  readonly digests?: readonly Digest[]
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

function layerRef({ blob, diffId }: ArchiveLayer): LayerRef {
  return { digest: blob.digest, diffId, size: blob.size }
}
