import type { IncomingMessage } from 'node:http'
import { Inject, Injectable, Logger } from '@nestjs/common'
import {
  REGISTRY_AUTH_HEADER,
  type ApiAnswer,
  type Descriptor,
  type ImageList,
  type ImageView,
  type LoadQuery,
  type LoadResult,
  type MountResult,
} from '@strata/api'
import { archiveBytes, planArchive, type ArchivePlan, type SavedImage } from '@strata/archive'
import { atMost, StrataError } from '@strata/base'
import { Images } from '@strata/images'
import { isDigest, parsePlatform, type Digest } from '@strata/oci'
import { NodeDirectory } from '@strata/queue'
import { BlobStore, OBJECT_STORE, type ObjectStore } from '@strata/store'
import { GATEWAY_CONFIG, type GatewayConfig } from '../config.js'
import type { RangedBody } from '../ranged-body.js'
import { openCallersFile } from './callers-file.js'
import { ImageMounts } from './image-mounts.js'
import { imageSummary, imageView } from './image-views.js'
import { importRecipe } from './import-recipe.js'
import { LoadService } from './load.service.js'
import { PullService } from './pull.service.js'
import { credentialsIn } from './registry-auth.js'

/** Blobs that are looked for at the same time: one small store call each. */
const LOOKS_AT_ONCE = 16

/** What one archive contains, and what is left out of it. */
export interface ArchiveQuery {
  readonly format: 'docker' | 'oci'
  readonly platform?: string | undefined
  readonly image: readonly string[]
  /** Images that the receiver has: their layers are left out. */
  readonly since: readonly string[]
  /** Layers that the receiver has. */
  readonly have: readonly Digest[]
}

/** The source of a load's bytes: the request's body, or a file that the client names. */
export interface LoadBody {
  readonly request: IncomingMessage
  readonly named: Descriptor | undefined
}

/**
 * Loads, pulls, lists, names, mounts, saves and removes images. An image is named by a name, a
 * digest or the unique beginning of its id.
 *
 * `gone` aborts when the client has left. All methods that name an image throw `image_not_found`,
 * `image_ambiguous` and `name_invalid`.
 */
@Injectable()
export class ImagesService {
  readonly #logger = new Logger('images')
  readonly #blobs: BlobStore

  constructor(
    private readonly images: Images,
    private readonly loads: LoadService,
    private readonly pulls: PullService,
    private readonly mounts: ImageMounts,
    private readonly nodes: NodeDirectory,
    @Inject(GATEWAY_CONFIG) private readonly config: GatewayConfig,
    @Inject(OBJECT_STORE) store: ObjectStore,
  ) {
    this.#blobs = new BlobStore(store)
  }

  /**
   * Receives an archive or a tree, as the request `job`. Resolves when all bytes are received and
   * the job is queued.
   * @throws StrataError as `LoadService.receive`; `bad_request` for options that exclude each other
   */
  async receive({ request, named }: LoadBody, query: LoadQuery, job: string, gone: AbortSignal): Promise<void> {
    const options = {
      job,
      prepare: query.prepare ?? this.config.STRATA_PREPARE,
      ...(importRecipe(query) ?? { name: query.name, platform: query.platform }),
    }
    if (named === undefined) {
      await this.loads.receive({ body: request }, { ...options, total: lengthOf(request) })
      return
    }
    const file = openCallersFile(request, named)
    try {
      await this.loads.receive({ file, gone }, { ...options, total: file.size })
    } finally {
      file.close()
    }
  }

  /**
   * Begins a pull as the request `job`. `auth`: docker's header.
   * @throws StrataError as `PullService.begin`; `bad_request` for a body, for options of a load, or
   * for a header that is not docker's
   */
  async pull(
    { headers }: IncomingMessage,
    { pull: name, ...query }: LoadQuery & { readonly pull: string },
    job: string,
  ): Promise<void> {
    if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0)
      throw new StrataError('bad_request', 'a pull has no body: leave it out, or leave out pull')
    for (const option of ['name', 'import', 'message', 'timestamp'] as const)
      if (query[option] !== undefined) throw new StrataError('bad_request', `a pull takes no ${option}`)
    await this.pulls.begin({
      job,
      name,
      platform: query.platform,
      prepare: query.prepare ?? this.config.STRATA_PREPARE,
      insecure: query.insecure ?? false,
      credentials: credentialsIn(headers[REGISTRY_AUTH_HEADER]?.toString()),
    })
  }

  /** The result of the load or pull `job`, once it has ended. @throws StrataError why it failed */
  async loaded(job: string, gone: AbortSignal): Promise<LoadResult> {
    return this.loads.result(job, gone)
  }

  /** A page: images in the order of their digests; `next` is there if more may follow. */
  async list(limit: number, after: Digest | undefined): Promise<ImageList> {
    const { images, next } = await this.images.page(limit, after)
    return { images: images.map(imageSummary), ...(next === undefined ? {} : { next }) }
  }

  /**
   * Looks which of the layers are here.
   * @throws StrataError `unsupported` if the image has not that platform
   */
  async get(ref: string, platform: string | undefined): Promise<ImageView> {
    const image = await this.images.inspect(ref, platform === undefined ? undefined : parsePlatform(platform))
    const digests = new Set(image.layerList.map(({ digest }) => digest))
    const missing = await atMost(LOOKS_AT_ONCE, digests, async (digest) =>
      (await this.#blobs.stat(digest)) ? [] : [digest],
    )
    return imageView(image, new Set(missing.flat()))
  }

  /**
   * Removes a name; with the last one the image.
   * @throws StrataError `image_has_tags`, `image_in_use`; `node_unavailable` without `force`, if a
   * node has not published its containers
   */
  async remove(ref: string, force: boolean): Promise<ApiAnswer<'removeImage'>> {
    const removed = await this.images.remove({
      ref,
      force,
      inUse: ({ id }) => this.nodes.usesImage(id, { forced: force }),
    })
    this.#logger.log(removed, `removed the image ${ref}`)
    return removed
  }

  /** Gives the image one more name. */
  async tag(ref: string, name: string, gone: AbortSignal): Promise<void> {
    await this.images.tag(ref, name, gone)
  }

  /**
   * Mounts the image's root read-only on a node.
   * @throws StrataError `node_unavailable`, `layer_missing`
   */
  async mount(ref: string, gone: AbortSignal): Promise<MountResult> {
    return this.images.reading(ref, async () => this.mounts.mount(await this.images.details(ref), gone))
  }

  /**
   * Unmounts the image's root. For an image that was removed, `ref` is its id.
   * @throws StrataError `not_found` if it is not mounted
   */
  async umount(ref: string, gone: AbortSignal): Promise<void> {
    const id = await this.images.resolve(ref).then(
      (image) => image.id,
      (error: unknown) => {
        if (isDigest(ref)) return ref
        throw error
      },
    )
    await this.mounts.umount(id, gone)
  }

  /**
   * Passes one archive of the images to `use`. Nothing is written: it is streamed from the blobs.
   * Its length is known, and the same images give the same bytes.
   * @throws StrataError `unsupported`, `corrupt`, `layer_missing`; what `use` throws
   */
  async archive(query: ArchiveQuery, use: (body: RangedBody) => Promise<void>): Promise<void> {
    await this.images.reading(query.image, async () => {
      const plan = await this.#plan(query)
      await use({
        ...plan,
        type: 'application/x-tar',
        parts: (range) => archiveBytes(plan, range, (blob, part) => this.#blobs.parts(blob, part)),
      })
    })
  }

  async #plan({ image, format, platform, since, have }: ArchiveQuery): Promise<ArchivePlan> {
    const saved = new Map<Digest, SavedImage>()
    for (const text of image) {
      // An image that was asked for by its id has no name in the archive, as with `docker save`.
      const { name, ...contents } = await this.images.contents(
        text,
        platform === undefined ? undefined : parsePlatform(platform),
      )
      const { digest } = contents.manifest
      saved.set(digest, { ...contents, names: [...(saved.get(digest)?.names ?? []), ...(name ? [name] : [])] })
    }
    const without = new Set(have)
    for (const text of since) {
      const { layers, whole } = await this.images.contents(text)
      for (const { digest } of [...layers, ...(whole?.layers ?? [])]) without.add(digest)
    }
    const plan = planArchive([...saved.values()], format, without)
    await this.#expectBlobs(plan)
    return plan
  }

  /**
   * A layer may be missing, or have another size than the manifest said before it came. This is
   * told before a byte is sent.
   */
  async #expectBlobs({ pieces }: ArchivePlan): Promise<void> {
    const blobs = pieces.flatMap((piece) => ('blob' in piece ? [piece] : []))
    await atMost(LOOKS_AT_ONCE, blobs, async ({ blob, size }) => {
      const record = await this.#blobs.stat(blob)
      if (!record)
        throw new StrataError(
          'layer_missing',
          `the archive needs blob ${blob}, which is not in the store: push it, or say that the receiver has it (have)`,
        )
      if (record.size !== size)
        throw new StrataError(
          'corrupt',
          `a manifest says that ${blob} has ${size} bytes, and the blob has ${record.size}`,
        )
    })
  }
}

function lengthOf({ headers }: IncomingMessage): number | undefined {
  const length = headers['content-length']
  return length === undefined ? undefined : Number(length)
}
