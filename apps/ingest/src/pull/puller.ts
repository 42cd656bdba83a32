import { failpoint, StrataError, type Slots, type Turns } from '@strata/base'
import { unpackableLayers, type Document, type ImageLayer, type Images, type Repositories } from '@strata/images'
import {
  familiarReference,
  formatPlatform,
  hexOf,
  imageConfigSchema,
  matchesPlatform,
  MAX_JSON_BYTES,
  parseJson,
  parsePlatform,
  parseTagged,
  platformOf,
  type Descriptor,
  type Digest,
  type Platform,
  type Reference,
} from '@strata/oci'
import {
  endsRunOnly,
  pullCredentialsSchema,
  QUEUES,
  type JobContext,
  type JobData,
  type JobResult,
  type NewJob,
  type Sealer,
} from '@strata/queue'
import type { RemoteRegistries, RemoteRepository } from '@strata/remote'
import type { BlobStore, Lease, LeaseRun, Leases, Uploads } from '@strata/store'
import type { ImageLayers } from '../image-layers.js'
import { LeasedJobs, type Made } from '../leased-jobs.js'
import { BlobBringer } from './blob-bringer.js'
import { PullProgress } from './pull-progress.js'
import { PullState, type PullRoot } from './pull-state.js'
import { PulledDocuments, type PulledTree } from './pulled-documents.js'

type Pull = JobData<'pull'>

export interface PullerParts {
  readonly blobs: BlobStore
  readonly leases: Leases
  readonly uploads: Uploads
  readonly repositories: Repositories
  readonly images: Images
  readonly layers: ImageLayers
  readonly registries: RemoteRegistries
  /** Opens the credentials of pulls; `undefined`: this service cannot. */
  readonly sealer: Sealer | undefined
  /** Blobs that come at the same time, of all pulls. */
  readonly slots: Slots
  readonly turns: Turns
  /** How many bytes a blob may have. */
  readonly maxBlobBytes: number
}

/**
 * The `pull` job: a client of our own registry, in the process (decision 106). It reads manifests
 * from another registry, brings the blobs that are not here by `Uploads`, and puts the manifests
 * and the tag by `Manifests` and `Tags`. So the laws of pushes hold for pulls.
 *
 *     resolving ─▶ pulling ─▶ extracting ─▶ preparing ─▶ naming
 *     receiving ───────────▶ received ────────────────▶ committing ─▶ named      (the lease)
 *
 * Every step may be run again (`LeasedJobs`). What the name stands for is settled by the first run
 * that learns it, so all runs bring the same. A blob that was begun goes on where it was.
 *
 * A layer of the image that a node here would run is unpacked as soon as it is here, while others
 * still come. Nothing is visible before all is proven.
 */
export class Puller {
  readonly #jobs: LeasedJobs
  readonly #stopping = new AbortController()

  constructor(private readonly parts: PullerParts) {
    this.#jobs = new LeasedJobs(parts.blobs, parts.leases)
  }

  async pull(data: Pull, context: JobContext): Promise<JobResult<'pull'>> {
    const own = { ...context, signal: AbortSignal.any([context.signal, this.#stopping.signal]) }
    let state: PullState | undefined
    const work = async (run: LeaseRun, lease: Lease): Promise<Made> => {
      state = new PullState(this.parts.leases, run, lease)
      try {
        return await this.#pull(data, own, run, lease, state)
      } catch (error) {
        // Whatever came of it: the run was stopped in the middle of something.
        if (this.#stopping.signal.aborted && !context.signal.aborted && !endsRunOnly(error))
          return await context.giveBack()
        throw error
      }
    }
    const cleanUp = (): Promise<void> => this.#giveUp(parseTagged(data.reference), state)
    return this.#jobs.run({ upload: data.upload, work, hasGotOn: () => state?.hasGotOn ?? false, cleanUp }, own)
  }

  /**
   * To be called while the queue's worker is closed: pulls may take long, so they are given back,
   * with what has come of each blob.
   */
  stop(): void {
    this.#stopping.abort(new Error('the ingest service ends'))
  }

  async #pull(data: Pull, context: JobContext, run: LeaseRun, lease: Lease, state: PullState): Promise<Made> {
    const { signal } = context
    signal.throwIfAborted()
    const reference = parseTagged(data.reference)
    const there = this.#open(data, reference, state)
    if (!context.resumed) await context.progress({ state: 'active', step: 'resolving' })
    const documents = new PulledDocuments(there, this.parts.blobs, data.upload, {
      signal,
      onWait: (why) => void context.progress({ step: waitingFor(reference, why) }).catch(() => undefined),
    })
    const root = state.root ?? (await this.#settle(reference, documents, state))
    const wanted = data.platform === undefined || data.platform === 'all' ? data.platform : parsePlatform(data.platform)
    const tree = await documents.tree(root, wanted)
    const blobs = blobsOf(tree)
    this.#expectSizes(blobs)
    if (lease.state === 'receiving') {
      await this.#bring(data, context, { reference, there, state, tree, blobs, wanted })
      await this.parts.leases.update(run, (record) => ({ ...record, state: 'received' }))
      failpoint('pull.received')
    }
    const known = {
      count: blobs.length - state.fetched.count,
      bytes: blobs.reduce((sum, { size }) => sum + size, 0) - state.fetched.bytes,
    }

    await this.#prepare(data, context, tree, reference)
    signal.throwIfAborted()
    await this.parts.leases.update(run, (record) => ({ ...record, state: 'committing' }))
    failpoint('load.committing')
    await context.progress({ step: 'naming' })
    await this.#name(reference, tree.documents, run)
    const result: JobResult<'pull'> = {
      images: await this.#imagesOf(reference, root, tree, data.platform === 'all'),
      pulled: {
        name: familiarReference(reference),
        digest: root.digest,
        mediaType: root.mediaType,
        changed: root.isNew,
        blobs: { new: state.fetched, known },
      },
    }
    await this.parts.leases.named(run, result)
    failpoint('load.named')
    // The lease itself has written manifests only.
    return { result, digests: tree.documents.map((document) => document.digest) }
  }

  #open({ root, sealed, insecure }: Pull, { repository }: Reference, state: PullState): RemoteRepository {
    const { registries, sealer } = this.parts
    if (sealed === undefined && state.hasCredentials)
      throw new StrataError('queue_unavailable', 'Redis has lost the credentials of the pull: pull again')
    if (sealed !== undefined && !sealer)
      throw new StrataError(
        'unsupported',
        'the ingest service cannot read the credentials of a pull: give it the STRATA_NODE_SECRET_FILE of the gateways',
      )
    const credentials = sealed === undefined ? undefined : sealer?.open(pullCredentialsSchema, sealed, root)
    return registries.repository(repository, { insecure, ...(credentials && { credentials }) })
  }

  async #settle(
    { repository, tag, digest }: Reference,
    documents: PulledDocuments,
    state: PullState,
  ): Promise<PullRoot> {
    const { manifests, tags } = this.parts.repositories
    await documents.root(digest ?? tag!, async (found) => {
      const isNew =
        digest === undefined
          ? (await tags.get(repository, tag!))?.digest !== found.digest
          : !(await manifests.has(repository, digest))
      await state.settle({ ...found, isNew })
      failpoint('pull.resolved')
    })
    return state.root!
  }

  /** Before a byte is fetched. */
  #expectSizes(blobs: readonly Descriptor[]): void {
    const { maxBlobBytes } = this.parts
    const large = blobs.find(({ size }) => size > maxBlobBytes)
    if (large)
      throw new StrataError(
        'limit_exceeded',
        `the blob ${large.digest} has ${large.size} bytes; the limit is ${maxBlobBytes} (STRATA_MAX_BLOB_BYTES)`,
      )
    if (!Number.isSafeInteger(blobs.reduce((sum, { size }) => sum + size, 0)))
      throw new StrataError('limit_exceeded', 'the blobs have more bytes in all than a number can count')
  }

  /** Brings all blobs; layers are unpacked behind that, while others come. */
  async #bring(data: Pull, context: JobContext, what: Bringing): Promise<void> {
    const { reference, there, state, tree, blobs, wanted } = what
    const progress = new PullProgress(context, hostOf(reference), blobs)
    const bringer = new BlobBringer(
      { ...this.parts, repositoryBlobs: this.parts.repositories.blobs },
      reference.repository,
      there,
      hostOf(reference),
      data.upload,
      state,
      progress,
      context.signal,
    )
    try {
      const configs = new Set(tree.documents.flatMap(({ descriptors: [config] }) => (config ? [config.digest] : [])))
      // They say what the layers are.
      await bringer.bring(
        blobs.filter(({ digest }) => configs.has(digest)),
        () => Promise.resolve(),
      )
      await this.#expectPlatform(tree, wanted)
      const layers = new Map((await this.#layersOf(tree)).map((layer) => [layer.digest, layer]))
      // The largest first: what is begun last ends last.
      const others = blobs.filter(({ digest }) => !configs.has(digest)).sort((one, other) => other.size - one.size)
      await bringer.bring(others, async ({ digest }) => {
        const layer = layers.get(digest)
        if (layer) await context.startChildren(this.#extracts(data.root, await this.parts.layers.unproven([layer])))
      })
    } finally {
      await progress.close()
    }
  }

  /** An image that is no index may be for another platform than the one that was asked for. */
  async #expectPlatform({ image, platforms }: PulledTree, wanted: Bringing['wanted']): Promise<void> {
    const [config] = image?.descriptors ?? []
    if (!config || wanted === undefined || wanted === 'all' || platforms.length > 0) return
    const has = await this.#platformIn(config.digest)
    if (has && !matchesPlatform(has, wanted))
      throw new StrataError(
        'unsupported',
        `the image is for ${formatPlatform(has)}, not for ${formatPlatform(wanted)}: leave the platform out`,
      )
  }

  /** `undefined`: it is the config of something that is no image. */
  async #platformIn(config: Digest): Promise<Platform | undefined> {
    try {
      const bytes = await this.parts.blobs.read(config, MAX_JSON_BYTES)
      return platformOf(parseJson(imageConfigSchema, bytes, `config ${config}`, 'not_an_image'))
    } catch (error) {
      if (error instanceof StrataError && ['not_an_image', 'limit_exceeded'].includes(error.code)) return undefined
      throw error
    }
  }

  /** The layers of the image that are here, lowest first. */
  async #layersOf({ image }: PulledTree): Promise<ImageLayer[]> {
    if (!image) return []
    return (await unpackableLayers(image.digest, this.parts.blobs)).filter(({ digest }) => !image.mayLack.has(digest))
  }

  #extracts(root: string, layers: readonly ImageLayer[]): NewJob<'extract'>[] {
    return layers.map(({ digest, diffId, size }) => ({
      name: 'extract',
      queue: QUEUES.extract,
      id: `${root}-extract-${hexOf(digest)}`,
      data: { root, layer: { digest, diffId, size } },
    }))
  }

  /** Waits until all layers are proven, and has a node assemble the image's root. */
  async #prepare({ root, prepare }: Pull, context: JobContext, tree: PulledTree, reference: Reference): Promise<void> {
    const layers = await this.#layersOf(tree)
    const unproven = await this.parts.layers.unproven(layers)
    if (unproven.length > 0) await context.progress({ step: 'extracting' })
    await context.children(this.#extracts(root, unproven))
    context.signal.throwIfAborted()
    const [config] = tree.image?.descriptors ?? []
    // A layer that stays elsewhere, or is none.
    const isWhole = layers.length > 0 && layers.length === (tree.image?.descriptors.length ?? 0) - 1
    if (!tree.image || !config || !isWhole) return
    const what = `the image ${familiarReference(reference)}`
    await this.parts.layers.expectRoom([{ what, diffIds: layers.map(({ diffId }) => diffId) }])
    if (!prepare) return
    await context.progress({ step: 'preparing' })
    const refs = layers.map(({ digest, diffId, size }) => ({ digest, diffId, size }))
    await context.children([
      {
        name: 'place',
        queue: QUEUES.runtime,
        id: `${root}-prepare-0`,
        data: { root, purpose: 'assemble', image: { id: config.digest, digest: tree.image.digest, layers: refs } },
      },
    ])
  }

  /**
   * Puts the manifests as a client does, what is below an index first. That has records of its own
   * only until the index names it, and goes with the index: it is no image without a name. (What a
   * client has put by its digest keeps its record.)
   */
  async #name({ repository, tag, digest }: Reference, documents: readonly Document[], run: LeaseRun): Promise<void> {
    const { manifests, tags } = this.parts.repositories
    const root = documents.at(-1)
    for (const document of documents) {
      const { mediaType } = document
      const bytes = await this.parts.blobs.read(document.digest, MAX_JSON_BYTES)
      if (document === root && digest === undefined)
        await tags.put(repository, tag!, { digest: document.digest, bytes, mediaType }, run)
      else await manifests.put(repository, document.digest, bytes, mediaType, run, 'tag')
    }
    for (const part of documents.slice(0, -1)) await manifests.retireUntagged(repository, part.digest)
  }

  /** What the name stands for, if that is an image. */
  async #imagesOf(
    { repository, tag, digest }: Reference,
    root: PullRoot,
    { image, platforms }: PulledTree,
    isAll: boolean,
  ): Promise<JobResult<'pull'>['images']> {
    const name = digest === undefined ? familiarReference({ repository, tag, digest: undefined }) : undefined
    try {
      const { id, layers, whole } = await this.parts.images.resolve(name ?? root.digest)
      const has = (whole?.parts ?? []).flatMap(({ platform }) => platform ?? [])
      const missing = platforms.filter((platform) => !has.includes(platform))
      const [config, ...own] = image?.descriptors ?? []
      return [
        {
          id: config?.digest ?? id,
          digest: root.digest,
          names: name === undefined ? [] : [name],
          layers: config ? own.length : layers,
          ...(isAll && whole ? { platforms: has, ...(missing.length > 0 ? { missing } : {}) } : {}),
        },
      ]
    } catch (error) {
      if (error instanceof StrataError && NO_IMAGE.has(error.code)) return []
      throw error
    }
  }

  /** The uploads of a pull that has failed: nobody else knows of them. */
  async #giveUp({ repository }: Reference, state: PullState | undefined): Promise<void> {
    for (const upload of state?.uploads ?? [])
      try {
        await this.parts.uploads.cancel(repository, upload)
      } catch (error) {
        if (!(error instanceof StrataError && error.code === 'upload_not_found')) throw error
      }
  }
}

const NO_IMAGE: ReadonlySet<string> = new Set(['image_not_found', 'not_an_image'])

interface Bringing {
  readonly reference: Reference
  readonly there: RemoteRepository
  readonly state: PullState
  readonly tree: PulledTree
  readonly blobs: readonly Descriptor[]
  readonly wanted: Platform | 'all' | undefined
}

/**
 * Each blob that is to come once. A layer whose bytes are elsewhere stays there (decision 86).
 * @throws StrataError `not_an_image` if they say several sizes of one blob: no repository takes
 * that
 */
function blobsOf({ documents }: PulledTree): Descriptor[] {
  const found = new Map<Digest, Descriptor>()
  for (const { descriptors, mayLack } of documents)
    for (const descriptor of descriptors) {
      const { digest, size } = descriptor
      if (mayLack.has(digest)) continue
      const said = found.get(digest)?.size ?? size
      if (said !== size)
        throw new StrataError('not_an_image', `the manifests say that ${digest} has ${said} bytes, and ${size} bytes`)
      found.set(digest, descriptor)
    }
  return [...found.values()]
}

/** Of whom a registry's name is: `docker.io`, `localhost:5000`. */
function hostOf({ repository }: Reference): string {
  return repository.slice(0, repository.indexOf('/'))
}

function waitingFor(reference: Reference, why: string): string {
  return `waiting for ${hostOf(reference)}: ${why}`.slice(0, 300)
}
