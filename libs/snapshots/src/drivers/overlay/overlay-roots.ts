import { chmodSync, closeSync, mkdirSync, readFileSync, renameSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { IndexMemory } from '@strata/layers'
import { Background, StrataError } from '@strata/base'
import { bootId, ownFolder } from '@strata/linux'
import { chainIds, hexOf, isDigest, type ChainId, type DiffId } from '@strata/oci'
import { withLocks } from '../../bookkeeping/file-lock.js'
import { chainsIn, type Layout } from '../../bookkeeping/layout.js'
import { isObject, isStack, readRecord } from '../../bookkeeping/record.js'
import { deleteAtOnce, withWorkFolders } from '../../bookkeeping/work-folders.js'
import { withStackMemory } from '../../layers/layer-files.js'
import { mountAll } from '../../mounts/mounts.js'
import type { LayerFiles } from '../../snapshotter.js'
import { threadFor } from '../../threads/run-worker.js'
import { deleteTree } from '../../trees/delete-tree.js'
import { openFolder } from '../../trees/tree.js'
import { commitRoot } from '../shared/commit-root.js'
import { MountedRoots, noRoot } from '../shared/mounted-roots.js'
import { OVERLAY_OPTIONS } from '../shared/overlay-options.js'
import type { tasks } from './tasks.js'

const inThread = threadFor<typeof tasks>('overlay')

/** Lower folders of one overlay: the kernel's limit (OVL_MAX_STACK in fs/overlayfs/params.h). */
const MAX_STACK = 500

/** root.json: the layers, lowest first, by what they are and by the chain ids of their folders. */
interface RootRecord {
  readonly diffIds: readonly DiffId[]
  readonly layers: readonly ChainId[]
}

/**
 * A layer's folder depends on the layers below it (a whiteout of nothing is left out, a link into a
 * lower layer is a copy). So it is kept under its chain id, and all images that begin with the same
 * layers share it.
 */
export class OverlayRoots extends MountedRoots {
  readonly #empties: readonly string[]
  readonly #syncing = new Background()

  constructor(
    layout: Layout,
    private readonly memory: IndexMemory,
  ) {
    super(layout)
    ownFolder(join(layout.path, 'empty'))
    this.#empties = ['1', '2'].map((name) => join(layout.path, 'empty', name))
    for (const empty of this.#empties) {
      ownFolder(empty, 0o755)
      chmodSync(empty, 0o755)
      utimesSync(empty, 0, 0)
    }
  }

  async make(chainId: ChainId, layers: readonly LayerFiles[], signal: AbortSignal): Promise<void> {
    if (layers.length > MAX_STACK) {
      const why = `overlayfs stacks at most ${MAX_STACK} layers, the image has ${layers.length}`
      throw new StrataError('limit_exceeded', `${why}: build it with fewer layers, or run it on a node with EROFS`)
    }
    const chain = chainIds(layers.map(({ diffId }) => diffId))
    // The locks are held until the root's record names the layers: a layer that no root names may
    // be collected. They are taken from the lowest layer up, as everywhere.
    const locks = chain.map((id) => this.#lock(id))
    const made = await withLocks(
      locks,
      () => withWorkFolders(this.layout, deleteTree, (fresh) => this.#make(chainId, chain, layers, fresh, signal)),
      signal,
    )
    if (made.length > 0) this.#syncInBackground(made)
  }

  /** Makes the root and the layers that are missing. Gives those layers. */
  async #make(
    chainId: ChainId,
    chain: readonly ChainId[],
    layers: readonly LayerFiles[],
    fresh: () => string,
    signal: AbortSignal,
  ): Promise<ChainId[]> {
    const missing = chain
      .map((id, place) => ({ id, place }))
      .filter(({ id }) => !this.#hasLayer(id))
      .map((layer) => ({ ...layer, work: fresh() }))
    for (const { work, id } of missing) {
      mkdirSync(work, { mode: 0o700 })
      writeFileSync(join(work, 'unsynced'), bootId())
      await deleteAtOnce(this.layout, this.#layer(id), deleteTree)
    }
    if (missing.length > 0) {
      const targets = missing.map(({ place, work }) => ({ place, folder: join(work, 'fs') }))
      await withStackMemory(this.memory, layers, signal, () => inThread('unpack', { layers, targets }, signal))
    }
    for (const { id, work } of missing) renameSync(work, this.#layer(id))
    const work = fresh()
    mkdirSync(work, { mode: 0o700 })
    const diffIds = layers.map(({ diffId }) => diffId)
    commitRoot(this.layout, chainId, work, { diffIds, layers: chain } satisfies RootRecord)
    return missing.map(({ id }) => id)
  }

  /**
   * Syncs new layers in the background. Until that is done, and if it fails, the layers are
   * unpacked again after the next boot. That is the only consequence.
   */
  #syncInBackground(made: readonly ChainId[]): void {
    const marks = made.map((id) => this.#mark(id))
    this.#syncing.run(() => inThread('synced', { marks, folder: this.layout.path }))
  }

  isUsable(chainId: ChainId): boolean {
    return this.#record(chainId)?.layers.every((id) => this.#hasLayer(id)) ?? false
  }

  override mount(chainId: ChainId, target: string): Promise<void> {
    const record = this.#record(chainId)
    if (!record) return Promise.reject(noRoot(chainId))
    const layers = record.layers.map((id) => this.#files(id)).reverse()
    // overlayfs needs at least two folders. Empty ones below change nothing.
    const lower = [...layers, ...this.#empties.slice(layers.length)]
    mountFolders(lower, target)
    return Promise.resolve()
  }

  layersOf(chainId: ChainId): readonly DiffId[] | undefined {
    return this.#record(chainId)?.diffIds
  }

  override foldersOf(chainIds: readonly ChainId[]): string[] {
    const named = (ids: readonly ChainId[]): Set<ChainId> =>
      new Set(ids.flatMap((id) => this.#record(id)?.layers ?? []))
    const staying = named(this.layout.chains('roots').filter((id) => !chainIds.includes(id)))
    const layers = [...named(chainIds)].filter((id) => !staying.has(id))
    return [...super.foldersOf(chainIds), ...layers.map((id) => this.#layer(id))]
  }

  /**
   * Deletes the layers that no root names. A layer that `make` is giving to a root is locked until
   * the root names it.
   */
  override async collect(): Promise<void> {
    for (const id of chainsIn(join(this.layout.path, 'layers')).reverse()) {
      await withLocks([this.#lock(id)], async () => {
        const named = this.layout.chains('roots').some((root) => this.#record(root)?.layers.includes(id))
        if (!named) await deleteAtOnce(this.layout, this.#layer(id), deleteTree)
      })
    }
  }

  /** Waits for the sync in the background. */
  async settled(): Promise<void> {
    await this.#syncing.settled()
  }

  #record(chainId: ChainId): RootRecord | undefined {
    return readRecord(this.layout.rootRecord(chainId), isRootRecord)
  }

  #hasLayer(id: ChainId): boolean {
    if (!statSync(this.#files(id), { throwIfNoEntry: false })?.isDirectory()) return false
    try {
      return readFileSync(this.#mark(id), 'utf8') === bootId()
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT') return true
      // This is no mark of ours, so nothing says that the layer is on disk.
      if (code === 'EISDIR' || code === 'ELOOP') return false
      throw error
    }
  }

  #layer(id: ChainId): string {
    return join(this.layout.path, 'layers', hexOf(id))
  }

  #files(id: ChainId): string {
    return join(this.#layer(id), 'fs')
  }

  #mark(id: ChainId): string {
    return join(this.#layer(id), 'unsynced')
  }

  #lock(id: ChainId): string {
    return this.layout.lock(`layer-${hexOf(id)}`)
  }
}

/**
 * The kernel shows the paths of all lower folders in one line of mountinfo, as they were given.
 * Programs in Go (runc, docker) cannot read the file any more if a line has 64 KiB. So each folder
 * is given by a descriptor: 500 of them make 14 KiB, wherever the data folder is. The kernel
 * resolves the paths during the mount only.
 */
function mountFolders(lower: readonly string[], target: string): void {
  const open: number[] = []
  try {
    for (const path of lower) open.push(openFolder(path))
    const options = open.map((fd) => `lowerdir+=/proc/self/fd/${fd}`)
    const flags = ['ro', 'nosuid', 'nodev', ...OVERLAY_OPTIONS]
    mountAll([{ type: 'overlay', source: 'overlay', options: [...flags, ...options] }], target)
  } finally {
    for (const fd of open) closeSync(fd)
  }
}

function isRootRecord(value: unknown): value is RootRecord {
  return (
    isObject(value) && isStack(value['diffIds']) && Array.isArray(value['layers']) && value['layers'].every(isDigest)
  )
}
