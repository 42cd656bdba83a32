import { Inject, Injectable } from '@nestjs/common'
import type { DiffView, FileListView, HistoryView } from '@strata/api'
import { Images } from '@strata/images'
import { StrataError } from '@strata/base'
import { cacheObserver, type ServiceMetrics } from '@strata/platform'
import { QUEUES } from '@strata/queue'
import { OBJECT_STORE, type ObjectStore } from '@strata/store'
import { difference } from '../browse/difference.js'
import { exportBody } from '../browse/export.js'
import { fileBytes, findFile, type FoundFile } from '../browse/file.js'
import { folderPage } from '../browse/folder.js'
import { historySteps, layerContents } from '../browse/history.js'
import { LayerBytes } from '../browse/layer-bytes.js'
import { Trees } from '../browse/trees.js'
import { GATEWAY_CONFIG, METRICS, type GatewayConfig } from '../config.js'
import { Requests } from '../jobs/requests.js'
import type { RangedBody } from '../ranged-body.js'

const MEBIBYTE = 1024 * 1024
const INDEXING_MS = 10 * 60_000

/** A file or folder of an image, or of one of its layers alone. */
export interface FilePlace {
  readonly image: string
  /** A layer by its place (lowest 0), its diffID or its digest. */
  readonly layer?: string | undefined
  /** From the root, as bytes. */
  readonly path: Buffer
}

/**
 * The files of images, without a container and without extraction: from the indexes of their
 * layers, and a file's bytes from the one blob that holds them.
 *
 * `gone` aborts when the client has left. Then the work stops and throws `cancelled`. All methods
 * also throw `image_not_found`, `image_ambiguous`, `limit_exceeded` and `corrupt`.
 */
@Injectable()
export class FilesService {
  readonly #trees: Trees
  readonly #bytes: LayerBytes

  constructor(
    private readonly images: Images,
    private readonly requests: Requests,
    @Inject(OBJECT_STORE) store: ObjectStore,
    @Inject(GATEWAY_CONFIG) config: GatewayConfig,
    @Inject(METRICS) metrics: ServiceMetrics,
  ) {
    this.#bytes = new LayerBytes(store)
    this.#trees = new Trees(
      store,
      async ({ digest, diffId, size }, signal) => {
        const until = AbortSignal.any([signal, AbortSignal.timeout(INDEXING_MS)])
        await this.requests.work(
          (root) => ({
            name: 'extract',
            queue: QUEUES.extract,
            id: `${root}-index`,
            data: { root, layer: { digest, diffId, size } },
          }),
          until,
        )
      },
      config.STRATA_FILES_MEMORY * MEBIBYTE,
      cacheObserver(metrics, 'views'),
    )
  }

  /** @throws StrataError `not_found`, `bad_request` for a path that leads nowhere */
  async list(
    { image, layer, path }: FilePlace,
    page: { readonly offset: number; readonly limit: number },
    gone: AbortSignal,
  ): Promise<FileListView> {
    using open = await this.#open(image, layer, gone)
    return folderPage(open, path, page, layer !== undefined)
  }

  /**
   * Passes the file's bytes to `use`. The view is closed before that, so a slow reader does not
   * hold it.
   * @throws StrataError `not_found`; `bad_request` if it is no file; what `use` throws
   */
  async file(place: FilePlace, gone: AbortSignal, use: (body: RangedBody) => Promise<void>): Promise<void> {
    await this.images.reading(place.image, async () => {
      const found = await this.#find(place, gone)
      await use({
        size: found.size,
        etag: found.etag,
        type: 'application/octet-stream',
        parts: (range) => fileBytes(found, range, this.#bytes),
      })
    })
  }

  async #find({ image, layer, path }: FilePlace, gone: AbortSignal): Promise<FoundFile> {
    using open = await this.#open(image, layer, gone)
    return findFile(open, path)
  }

  /**
   * One page of the changes from the image to another, or of the changes that one of its layers
   * made.
   * @throws StrataError `bad_request` unless exactly one of `other` and `layer` is given, and for a
   * text that is no cursor
   */
  async diff(
    image: string,
    query: {
      readonly other?: string | undefined
      readonly layer?: string | undefined
      readonly after?: string | undefined
      readonly limit: number
    },
    gone: AbortSignal,
  ): Promise<DiffView> {
    const { other, layer } = query
    if (layer !== undefined && other === undefined) {
      const { below, upTo } = await this.#trees.openAround(await this.#layers(image), layer, gone)
      using before = below
      using after = upTo
      return await difference(before.tree, after.tree, query, gone)
    }
    if (other === undefined || layer !== undefined)
      throw new StrataError(
        'bad_request',
        'a difference is to another image (other) or of one layer (layer): give one of them',
      )
    using before = await this.#open(image, undefined, gone)
    using after = await this.#open(other, undefined, gone)
    return await difference(before.tree, after.tree, query, gone)
  }

  /** The steps that made the image, and what each layer holds. */
  async history(image: string, gone: AbortSignal): Promise<HistoryView> {
    const { layerList, history } = await this.images.layers(image)
    return historySteps(layerList, history, async (layer) => {
      using open = await this.#trees.alone(layer, gone)
      return layerContents(open.tree.layers[0]!)
    })
  }

  /** Passes the image's root file system to `use`, as a tar: the same bytes for the same layers. */
  async export(image: string, gone: AbortSignal, use: (body: RangedBody) => Promise<void>): Promise<void> {
    await this.images.reading(image, async () => {
      using open = await this.#open(image, undefined, gone)
      await use(await exportBody(open, this.#bytes, gone))
    })
  }

  async #open(image: string, layer: string | undefined, gone: AbortSignal) {
    return this.#trees.open(await this.#layers(image), layer, gone)
  }

  async #layers(image: string) {
    return (await this.images.layers(image)).layerList
  }
}
