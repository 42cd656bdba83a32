import { randomUUID } from 'node:crypto'
import { Inject, Injectable } from '@nestjs/common'
import { Images, type ImageLayer } from '@strata/images'
import { LayerIndex, layerTree, mergeLayers, type MergedTree } from '@strata/layers'
import { hexOf, StrataError, type DiffId } from '@strata/oci'
import { Producer, QUEUES } from '@strata/queue'
import { keys, OBJECT_STORE, type ObjectStore } from '@strata/store'
import { GATEWAY_CONFIG, type GatewayConfig } from '../config.js'

/** A view that stays in memory until it is disposed of. */
export interface OpenTree extends Disposable {
  readonly tree: MergedTree
  /** Those of `tree.layers`, as blobs. */
  readonly layers: readonly ImageLayer[]
}

interface Kept {
  readonly tree: MergedTree
  /** No blobs: the next who asks for the same stack may have it in other blobs, and these may be gone. */
  readonly diffIds: readonly DiffId[]
  readonly weight: number
  users: number
}

/** What of an index's bytes its decoded form and its part of a merged view take besides, at most: 40 bytes an entry, and no entry has less than 52. */
const OVERHEAD = 40 / 52
/** An entry of the table itself, so that very small images do not become very many. */
const SMALLEST = 16 * 1024
/** For as long a request waits for others to let go of their views. */
const PATIENCE_MS = 10_000

/**
 * The views of images that requests look at: of whole stacks and of layers alone, made from the indexes in the store, no layer's bytes read. Those used last are kept.
 *
 * All that are kept or in use together are held to STRATA_FILES_MEMORY; one view is made at a time. An image that alone needs more is refused.
 */
@Injectable()
export class Trees {
  /** In the order of their last use. */
  readonly #kept = new Map<string, Kept>()
  readonly #budget: number
  #turn: Promise<unknown> = Promise.resolve()
  #released = new AbortController()

  constructor(
    private readonly images: Images,
    private readonly producer: Producer,
    @Inject(OBJECT_STORE) private readonly store: ObjectStore,
    @Inject(GATEWAY_CONFIG) config: GatewayConfig,
  ) {
    this.#budget = config.STRATA_FILES_MEMORY * 1024 * 1024
  }

  /** The view of an image, or of one of its layers alone. @throws as `Images.resolve`; `not_found`, `limit_exceeded` */
  async open(ref: string, layer?: string): Promise<OpenTree> {
    const { layerList } = await this.images.layers(ref)
    return layer === undefined ? this.stack(layerList) : this.alone(layerList[placeOf(layer, layerList)]!)
  }

  /** The layers up to one of them, and those below it. */
  async openAround(ref: string, layer: string): Promise<{ below: OpenTree; upTo: OpenTree }> {
    const { layerList } = await this.images.layers(ref)
    const place = placeOf(layer, layerList)
    const below = await this.stack(layerList.slice(0, place))
    try {
      return { below, upTo: await this.stack(layerList.slice(0, place + 1)) }
    } catch (error) {
      below[Symbol.dispose]()
      throw error
    }
  }

  async stack(layers: readonly ImageLayer[]): Promise<OpenTree> {
    return this.#lease(`stack ${layers.at(-1)?.chainId ?? ''}`, layers, mergeLayers)
  }

  async alone(layer: ImageLayer): Promise<OpenTree> {
    return this.#lease(`layer ${layer.diffId}`, [layer], ([index]) => layerTree(index!))
  }

  async #lease(key: string, layers: readonly ImageLayer[], make: (indexes: LayerIndex[]) => MergedTree): Promise<OpenTree> {
    const kept = this.#use(key) ?? (await this.#inTurn(async () => this.#use(key) ?? this.#make(key, layers, make)))
    let isOpen = true
    return {
      tree: kept.tree,
      layers,
      [Symbol.dispose]: () => {
        if (isOpen) kept.users--
        isOpen = false
        this.#released.abort()
        this.#released = new AbortController()
      },
    }
  }

  #use(key: string): Kept | undefined {
    const kept = this.#kept.get(key)
    if (!kept) return undefined
    kept.users++
    this.#kept.delete(key)
    this.#kept.set(key, kept)
    return kept
  }

  /** In use when it is made, so that the next one does not take its place at once. */
  async #make(key: string, layers: readonly ImageLayer[], make: (indexes: LayerIndex[]) => MergedTree): Promise<Kept> {
    let bytes = 0
    for (const layer of layers) bytes += await this.#sizeOf(layer)
    const weight = SMALLEST + Math.ceil(bytes * (1 + OVERHEAD))
    await this.#makeRoom(weight)
    const indexes: LayerIndex[] = []
    for (const layer of layers) indexes.push(this.#known(layer) ?? (await this.#read(layer)))
    const kept = { tree: make(indexes), diffIds: layers.map(({ diffId }) => diffId), weight, users: 1 }
    this.#kept.set(key, kept)
    return kept
  }

  /** Of a layer that another view has too: what two images share is in memory once, and known to be the same. */
  #known({ diffId }: ImageLayer): LayerIndex | undefined {
    for (const { diffIds, tree } of this.#kept.values()) {
      const place = diffIds.indexOf(diffId)
      if (place >= 0) return tree.layers[place]
    }
    return undefined
  }

  async #sizeOf(layer: ImageLayer): Promise<number> {
    return ((await this.store.stat(keys.index(layer.diffId))) ?? (await this.#index(layer))).size
  }

  /** An index may be absent at any time (Collector): whoever misses it has it made. */
  async #index(layer: ImageLayer): Promise<{ size: number }> {
    const root = randomUUID()
    const { digest, diffId, size } = layer
    const job = { name: 'extract', queue: QUEUES.extract, id: `${root}-index`, data: { root, layer: { digest, diffId, size } } } as const
    await this.producer.add(job)
    await this.producer.result(job, AbortSignal.timeout(INDEXING_MS))
    const made = await this.store.stat(keys.index(diffId))
    if (!made) throw new StrataError('corrupt', `the layer ${diffId} has no index`)
    return made
  }

  async #read({ diffId }: ImageLayer): Promise<LayerIndex> {
    const found = await this.store.read(keys.index(diffId), this.#budget)
    if (!found) throw new StrataError('corrupt', `the index of layer ${diffId} is gone from the store`)
    return LayerIndex.decode(found.bytes)
  }

  async #makeRoom(weight: number): Promise<void> {
    if (weight > this.#budget) throw new StrataError('limit_exceeded', `to show the files of this image takes ${mebibytes(weight)} MiB; the gateway is given ${mebibytes(this.#budget)} for that (STRATA_FILES_MEMORY)`)
    const deadline = AbortSignal.timeout(PATIENCE_MS)
    for (;;) {
      let sum = weight
      for (const kept of this.#kept.values()) sum += kept.weight
      for (const [key, kept] of this.#kept) {
        if (sum <= this.#budget) return
        if (kept.users > 0) continue
        this.#kept.delete(key)
        sum -= kept.weight
      }
      if (sum <= this.#budget) return
      if (deadline.aborted) throw new StrataError('limit_exceeded', `the gateway shows the files of so many images at once that this one has no room in ${mebibytes(this.#budget)} MiB (STRATA_FILES_MEMORY)`)
      const either = AbortSignal.any([this.#released.signal, deadline])
      await new Promise((resolve) => either.addEventListener('abort', resolve, { once: true }))
    }
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(work)
    this.#turn = mine.catch(() => undefined)
    return mine
  }
}

const INDEXING_MS = 10 * 60_000

/** A layer of the image by its place, or by its diffID or digest or their beginning. */
function placeOf(text: string, layers: readonly ImageLayer[]): number {
  const hex = /^(?:sha(?:256|512):)?([0-9a-f]{6,128})$/.exec(text)?.[1]
  const place = hex === undefined ? (/^\d{1,5}$/.test(text) ? Number(text) : -1) : layers.findIndex(({ diffId, digest }) => [diffId, digest].some((one) => hexOf(one).startsWith(hex)))
  if (!(place >= 0 && place < layers.length)) throw new StrataError('not_found', `the image has no layer ${JSON.stringify(text)}: it has ${layers.length}, the lowest is 0`)
  return place
}

function mebibytes(bytes: number): number {
  return Math.ceil(bytes / 1024 / 1024)
}
