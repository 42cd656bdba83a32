import type { ImageLayer } from '@strata/images'
import { LayerIndex, layerTree, mergeLayers, type MergedTree } from '@strata/layers'
import { StrataError } from '@strata/base'
import { hexOf, type DiffId } from '@strata/oci'
import { keys, type ObjectStore } from '@strata/store'

/** A view that stays in memory until it is disposed of. */
export interface OpenTree extends Disposable {
  readonly tree: MergedTree
  /** Those of `tree.layers`, as blobs. */
  readonly layers: readonly ImageLayer[]
}

/** A view that is being made, or that was made and is kept. */
interface View {
  /**
   * No blobs: the next who asks for the same stack may have it in other blobs, and these may be
   * gone.
   */
  readonly indexes: Map<DiffId, Promise<LayerIndex>>
  readonly tree: Promise<MergedTree>
  readonly stop: AbortController
  /** Bytes that are reserved for it. */
  weight: number
  /** Who waits for it or looks at it. */
  users: number
  isMade: boolean
}

/**
 * What of an index's bytes its decoded form and its part of a merged view take besides, at most: 40
 * bytes an entry, and no entry has less than 52.
 */
const OVERHEAD = 40 / 52
/** An entry of the table itself, so that very small images do not become very many. */
const SMALLEST = 16 * 1024
/** For as long a request waits for others to let go of their views. */
const PATIENCE_MS = 10_000

/**
 * The views of images that requests look at: of whole stacks and of layers alone. They are made
 * from the indexes in the store, no layer's bytes are read. Those used last are kept.
 *
 * Laws:
 * - A view is made once for all who ask for it meanwhile. When the last of them has left (its
 *   signal), the making stops.
 * - Nobody waits for another image. All that waits for the store or the queue is done outside of
 *   any turn.
 * - All views that are kept, in use or being made weigh STRATA_FILES_MEMORY together at most. A
 *   view's weight is reserved before an index is read, and released when the making has ended
 *   without a view. An image that alone needs more is refused.
 * - Views that nobody uses make room, the one used longest ago first. Without room a request waits
 *   for PATIENCE_MS. There is no queue: whoever fits goes first, so that a large image does not
 *   keep small ones waiting.
 * - A layer that two views have is in memory once, the same object: that is how a difference knows
 *   that nothing changed in it.
 */
export class Trees {
  /** In the order of their last use. */
  readonly #views = new Map<string, View>()
  /**
   * The sum of all weights, also of views that nobody waits for any more but whose reads are not
   * over.
   */
  #reserved = 0
  #released = new AbortController()

  /**
   * @param makeIndex makes the index of a layer that has none in the store. It rejects when the
   * signal aborts, and then takes back what it asked for
   * @param budget bytes that all views together may take
   */
  constructor(
    private readonly store: Pick<ObjectStore, 'stat' | 'read'>,
    private readonly makeIndex: (layer: ImageLayer, signal: AbortSignal) => Promise<void>,
    private readonly budget: number,
  ) {}

  /**
   * The view of these layers, or of one of them alone. `gone` aborts when the client has left.
   * @throws StrataError `not_found`, `limit_exceeded`, `cancelled` (the client has left)
   */
  async open(layers: readonly ImageLayer[], layer: string | undefined, gone: AbortSignal): Promise<OpenTree> {
    return layer === undefined ? this.stack(layers, gone) : this.alone(layers[placeOf(layer, layers)]!, gone)
  }

  /** The layers up to one of them, and those below it. */
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
    return this.#lease(`stack ${layers.at(-1)?.chainId ?? ''}`, layers, mergeLayers, gone)
  }

  async alone(layer: ImageLayer, gone: AbortSignal): Promise<OpenTree> {
    return this.#lease(`layer ${layer.diffId}`, [layer], ([index]) => layerTree(index!), gone)
  }

  async #lease(key: string, layers: readonly ImageLayer[], merge: Merge, gone: AbortSignal): Promise<OpenTree> {
    if (gone.aborted) throw left()
    const view = this.#views.get(key) ?? this.#begin(key, layers, merge)
    this.#views.delete(key)
    this.#views.set(key, view)
    view.users++
    let isOpen = true
    const close = (): void => {
      if (isOpen) this.#leave(key, view)
      isOpen = false
    }
    try {
      return { tree: await orLeft(view.tree, gone), layers, [Symbol.dispose]: close }
    } catch (error) {
      close()
      throw error
    }
  }

  #leave(key: string, view: View): void {
    view.users--
    if (view.users > 0) return
    if (view.isMade) return this.#wake()
    // Whoever asks from now on starts anew and does not join what is being ended.
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

  /** Of a layer that another view has too, or reads just now. */
  #known({ diffId }: ImageLayer): Promise<LayerIndex> | undefined {
    for (const { indexes } of this.#views.values()) {
      const index = indexes.get(diffId)
      if (index) return index
    }
    return undefined
  }

  async #sizeOf(layer: ImageLayer, signal: AbortSignal): Promise<number> {
    return ((await this.store.stat(keys.index(layer.diffId))) ?? (await this.#index(layer, signal))).size
  }

  /** An index may be absent at any time (Collector): whoever misses it has it made. */
  async #index(layer: ImageLayer, signal: AbortSignal): Promise<{ size: number }> {
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
        `to show the files of this image takes ${mebibytes(weight)} MiB; the gateway is given ${mebibytes(this.budget)} for that (STRATA_FILES_MEMORY)`,
      )
    const deadline = AbortSignal.timeout(PATIENCE_MS)
    while (!this.#makeRoom(weight)) {
      if (deadline.aborted)
        throw new StrataError(
          'limit_exceeded',
          `the gateway shows the files of so many images at once that this one has no room in ${mebibytes(this.budget)} MiB (STRATA_FILES_MEMORY)`,
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

  /** All who wait for room look again. */
  #wake(): void {
    this.#released.abort()
    this.#released = new AbortController()
  }
}

type Merge = (indexes: LayerIndex[]) => MergedTree

function left(): StrataError {
  return new StrataError('cancelled', 'nobody waits for the answer any more')
}

/** What is promised, or `cancelled` as soon as the caller has left. */
async function orLeft<T>(promised: Promise<T>, gone: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const onGone = (): void => reject(left())
  gone.addEventListener('abort', onGone, { once: true })
  try {
    return await Promise.race([promised, promise])
  } finally {
    gone.removeEventListener('abort', onGone)
  }
}

/** A layer of the image by its place, or by its diffID or digest or their beginning. */
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
