import type { ImageLayer } from '@strata/images'
import { LayerIndex, layerTree, mergeLayers, type MergedTree } from '@strata/layers'
import { orAborted, StrataError } from '@strata/base'
import { hexOf, type DiffId } from '@strata/oci'
import { keys, type ObjectStore } from '@strata/store'

/** A view that stays in memory until it is disposed of. */
export interface OpenTree extends Disposable {
  readonly tree: MergedTree
  /** The blobs of `tree.layers`, in the same order. */
  readonly layers: readonly ImageLayer[]
}

/** A view that is being made, or that was made and is kept. */
interface View {
  /**
   * A view keeps no blobs. The next request for the same stack may name other blobs of it, and
   * these ones may be gone.
   */
  readonly indexes: Map<DiffId, Promise<LayerIndex>>
  readonly tree: Promise<MergedTree>
  readonly stop: AbortController
  /** Bytes of the budget that are reserved for it. */
  weight: number
  /** How many requests wait for it or use it. */
  users: number
  isMade: boolean
}

/**
 * The memory of a decoded index and of its part of a merged view, beyond the index's own bytes, as
 * a share of those: at most 40 bytes for an entry, and an entry has at least 52.
 */
const OVERHEAD = 40 / 52
/** Added to the weight of each view, so that views of very small images do not become very many. */
const SMALLEST = 16 * 1024
/** How long a request waits until others release their views. */
const PATIENCE_MS = 10_000

/**
 * The views of images that requests use: of whole stacks and of single layers. They are made from
 * the indexes in the store, without a byte of the layers. The views that were used last are kept.
 *
 * Laws:
 * - A view is made once for all requests that ask for it meanwhile. When the last of them has left
 *   (its signal), the making stops.
 * - No request waits while the view of another image is made: their waits for the store and the
 *   queue are independent.
 * - All views that are kept, in use or being made weigh at most STRATA_FILES_MEMORY together. A
 *   view's weight is reserved before an index is read. It is released if the making ends without a
 *   view. An image that needs more alone is refused.
 * - Views without a user make room, the one used longest ago first. Without room a request waits
 *   for PATIENCE_MS. There is no queue: a request that fits goes first, so that a large image does
 *   not delay small ones.
 * - A layer that two views have is in memory once, as the same object. So a difference sees that
 *   the layer is the same.
 */
export class Trees {
  /** Views by name, in the order of their last use. */
  readonly #views = new Map<string, View>()
  /**
   * The sum of all weights, also of views that nobody waits for any more while their reads go on.
   */
  #reserved = 0
  #released = new AbortController()

  /**
   * @param makeIndex makes the index of a layer that has none in the store. When the signal aborts
   * it rejects, and withdraws the job that it queued
   * @param budget bytes that all views together may take
   * @param onLook gets whether a view was there, or was being made, when a request came for it
   */
  constructor(
    private readonly store: Pick<ObjectStore, 'stat' | 'read'>,
    private readonly makeIndex: (layer: ImageLayer, signal: AbortSignal) => Promise<void>,
    private readonly budget: number,
    private readonly onLook: (isHit: boolean) => void = () => undefined,
  ) {}

  /**
   * The view of these layers, or of one of them alone. `gone` aborts when the client has left.
   * @throws StrataError `not_found`, `limit_exceeded`, `cancelled` (the client has left)
   */
  async open(layers: readonly ImageLayer[], layer: string | undefined, gone: AbortSignal): Promise<OpenTree> {
    return layer === undefined ? this.stack(layers, gone) : this.alone(layers[placeOf(layer, layers)]!, gone)
  }

  /** Two views: the layers up to and including one of them, and the layers below it. */
  async openAround(
    layers: readonly ImageLayer[],
    layer: string,
    gone: AbortSignal,
  ): Promise<{ below: OpenTree; upTo: OpenTree }> {
    const place = placeOf(layer, layers)
    const below = await this.stack(layers.slice(0, place), gone)
    try {
      return { below, upTo: await this.stack(layers.slice(0, place + 1), gone) }
    } catch (error) {
      below[Symbol.dispose]()
      throw error
    }
  }

  async stack(layers: readonly ImageLayer[], gone: AbortSignal): Promise<OpenTree> {
    return this.#use(`stack ${layers.at(-1)?.chainId ?? ''}`, layers, mergeLayers, gone)
  }

  async alone(layer: ImageLayer, gone: AbortSignal): Promise<OpenTree> {
    return this.#use(`layer ${layer.diffId}`, [layer], ([index]) => layerTree(index!), gone)
  }

  async #use(key: string, layers: readonly ImageLayer[], merge: Merge, gone: AbortSignal): Promise<OpenTree> {
    if (gone.aborted) throw left()
    const known = this.#views.get(key)
    this.onLook(known !== undefined)
    const view = known ?? this.#begin(key, layers, merge)
    this.#views.delete(key)
    this.#views.set(key, view)
    view.users++
    let isOpen = true
    const close = (): void => {
      if (isOpen) this.#leave(key, view)
      isOpen = false
    }
    try {
      return { tree: await orAborted(view.tree, gone, left), layers, [Symbol.dispose]: close }
    } catch (error) {
      close()
      throw error
    }
  }

  #leave(key: string, view: View): void {
    view.users--
    if (view.users > 0) return
    if (view.isMade) return this.#wake()
    // A request that comes from now on starts anew and does not join what is being stopped.
    this.#forget(key, view)
    view.stop.abort(left())
  }

  #begin(key: string, layers: readonly ImageLayer[], merge: Merge): View {
    const state = {
      indexes: new Map<DiffId, Promise<LayerIndex>>(),
      stop: new AbortController(),
      weight: 0,
      users: 0,
      isMade: false,
    }
    const view: View = Object.assign(state, { tree: this.#make(state, layers, merge) })
    this.#views.set(key, view)
    view.tree.catch(() => {
      this.#forget(key, view)
      this.#reserved -= view.weight
      this.#wake()
    })
    return view
  }

  async #make(view: Omit<View, 'tree'>, layers: readonly ImageLayer[], merge: Merge): Promise<MergedTree> {
    const { signal } = view.stop
    let bytes = 0
    for (const layer of layers) {
      bytes += await this.#sizeOf(layer, signal)
      signal.throwIfAborted()
    }
    await this.#reserve(view, SMALLEST + Math.ceil(bytes * (1 + OVERHEAD)))
    const indexes: LayerIndex[] = []
    for (const layer of layers) {
      const index = this.#known(layer) ?? this.#read(layer)
      view.indexes.set(layer.diffId, index)
      indexes.push(await index)
      signal.throwIfAborted()
    }
    const tree = merge(indexes)
    view.isMade = true
    return tree
  }

  /** The index of a layer that another view has, or is reading. */
  #known({ diffId }: ImageLayer): Promise<LayerIndex> | undefined {
    for (const { indexes } of this.#views.values()) {
      const index = indexes.get(diffId)
      if (index) return index
    }
    return undefined
  }

  async #sizeOf(layer: ImageLayer, signal: AbortSignal): Promise<number> {
    return ((await this.store.stat(keys.index(layer.diffId))) ?? (await this.#makeMissing(layer, signal))).size
  }

  /**
   * Has the missing index of a layer made, and gives its size. An index may be absent at any time
   * (`Collector`).
   */
  async #makeMissing(layer: ImageLayer, signal: AbortSignal): Promise<{ size: number }> {
    signal.throwIfAborted()
    await this.makeIndex(layer, signal)
    const { diffId } = layer
    const made = await this.store.stat(keys.index(diffId))
    if (!made) throw new StrataError('corrupt', `the layer ${diffId} has no index`)
    return made
  }

  async #read({ diffId }: ImageLayer): Promise<LayerIndex> {
    const found = await this.store.read(keys.index(diffId), this.budget)
    if (!found) throw new StrataError('corrupt', `the index of layer ${diffId} is gone from the store`)
    return LayerIndex.decode(found.bytes)
  }

  async #reserve(view: Omit<View, 'tree'>, weight: number): Promise<void> {
    if (weight > this.budget)
      throw new StrataError(
        'limit_exceeded',
        `to show the files of this image takes ${mebibytes(weight)} MiB; the gateway may use ${mebibytes(this.budget)} MiB for that: raise STRATA_FILES_MEMORY`,
      )
    const deadline = AbortSignal.timeout(PATIENCE_MS)
    while (!this.#makeRoom(weight)) {
      if (deadline.aborted)
        throw new StrataError(
          'limit_exceeded',
          `the gateway shows the files of so many images now that this one does not fit into ${mebibytes(this.budget)} MiB: try again, or raise STRATA_FILES_MEMORY`,
        )
      const any = AbortSignal.any([this.#released.signal, view.stop.signal, deadline])
      if (!any.aborted) await new Promise((resolve) => any.addEventListener('abort', resolve, { once: true }))
      view.stop.signal.throwIfAborted()
    }
    view.weight = weight
    this.#reserved += weight
  }

  #makeRoom(weight: number): boolean {
    for (const [key, view] of this.#views) {
      if (this.#reserved + weight <= this.budget) break
      if (view.users > 0) continue
      this.#views.delete(key)
      this.#reserved -= view.weight
    }
    return this.#reserved + weight <= this.budget
  }

  #forget(key: string, view: View): void {
    if (this.#views.get(key) === view) this.#views.delete(key)
  }

  /** Wakes all requests that wait for room. */
  #wake(): void {
    this.#released.abort()
    this.#released = new AbortController()
  }
}

type Merge = (indexes: LayerIndex[]) => MergedTree

function left(): StrataError {
  return new StrataError('cancelled', 'nobody waits for the answer any more')
}

/**
 * The place of a layer that is named by its place, or by its diffID or digest or the beginning of
 * one.
 */
function placeOf(text: string, layers: readonly ImageLayer[]): number {
  const hex = /^(?:sha(?:256|512):)?([0-9a-f]{6,128})$/.exec(text)?.[1]
  const place =
    hex === undefined
      ? /^\d{1,5}$/.test(text)
        ? Number(text)
        : -1
      : layers.findIndex(({ diffId, digest }) => [diffId, digest].some((one) => hexOf(one).startsWith(hex)))
  if (!(place >= 0 && place < layers.length))
    throw new StrataError(
      'not_found',
      `the image has no layer ${JSON.stringify(text)}: it has ${layers.length}, the lowest is 0`,
    )
  return place
}

function mebibytes(bytes: number): number {
  return Math.ceil(bytes / 1024 / 1024)
}
