import { mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { IndexMemory } from '@strata/layers'
import { MNT_DETACH, umount } from '@strata/linux'
import type { ChainId, DiffId } from '@strata/oci'
import type { Layout } from '../../bookkeeping/layout.js'
import { isObject, isStack, readRecord } from '../../bookkeeping/record.js'
import { withWorkFolders } from '../../bookkeeping/work-folders.js'
import { withStackMemory } from '../../layers/layer-files.js'
import { mountAll } from '../../mounts/mounts.js'
import type { LayerFiles } from '../../snapshotter.js'
import { threadFor } from '../../threads/run-worker.js'
import { deleteTree } from '../../trees/delete-tree.js'
import { commitRoot } from '../shared/commit-root.js'
import { MountedRoots, noRoot } from '../shared/mounted-roots.js'
import type { tasks } from './tasks.js'

const inThread = threadFor<typeof tasks>('vfs')

/** root.json */
interface RootRecord {
  readonly diffIds: readonly DiffId[]
}

/** Each root is a folder `fs` with all its files, and a read-only bind mount of it. */
export class VfsRoots extends MountedRoots {
  constructor(
    layout: Layout,
    private readonly memory: IndexMemory,
  ) {
    super(layout)
  }

  async make(chainId: ChainId, layers: readonly LayerFiles[], signal: AbortSignal): Promise<void> {
    // If a root that could not be used is still mounted, its mount shows a deleted folder. Children
    // are copies, so none of them needs it.
    const open = this.openAt(chainId)
    if (open !== undefined) umount(open, MNT_DETACH)
    await withWorkFolders(this.layout, deleteTree, async (fresh) => {
      const work = fresh()
      mkdirSync(work, { mode: 0o700 })
      await withStackMemory(this.memory, layers, signal, () =>
        inThread('root', { layers, folder: join(work, 'fs') }, signal),
      )
      const diffIds = layers.map(({ diffId }) => diffId)
      commitRoot(this.layout, chainId, work, { diffIds } satisfies RootRecord)
    })
  }

  isUsable(chainId: ChainId): boolean {
    return this.layersOf(chainId) !== undefined
  }

  layersOf(chainId: ChainId): readonly DiffId[] | undefined {
    if (!statSync(this.#files(chainId), { throwIfNoEntry: false })?.isDirectory()) return undefined
    return readRecord(this.layout.rootRecord(chainId), isRootRecord)?.diffIds
  }

  override mount(chainId: ChainId, target: string): Promise<void> {
    if (!this.isUsable(chainId)) return Promise.reject(noRoot(chainId))
    mountAll([{ type: 'bind', source: this.#files(chainId), options: ['ro', 'nosuid', 'nodev'] }], target)
    return Promise.resolve()
  }

  #files(chainId: ChainId): string {
    return join(this.layout.root(chainId), 'fs')
  }
}

function isRootRecord(value: unknown): value is RootRecord {
  return isObject(value) && isStack(value['diffIds'])
}
