import { createHash } from 'node:crypto'
import { closeSync, createReadStream, statSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { IndexMemory } from '@strata/layers'
import { attachLoop, mountFs, type LoopDevice } from '@strata/linux'
import { StrataError } from '@strata/base'
import { type ChainId, type DiffId } from '@strata/oci'
import type { Layout } from '../../bookkeeping/layout.js'
import { isObject, isStack, readRecord } from '../../bookkeeping/record.js'
import { withWorkFolders } from '../../bookkeeping/work-folders.js'
import { withStackMemory } from '../../layers/layer-files.js'
import type { LayerFiles } from '../../snapshotter.js'
import { threadFor } from '../../threads/run-worker.js'
import { deleteTree } from '../../trees/delete-tree.js'
import { commitRoot } from '../shared/commit-root.js'
import { MountedRoots, noRoot } from '../shared/mounted-roots.js'
import type { tasks } from './tasks.js'
import { METADATA, SIDE } from './write-root.js'

const inThread = threadFor<typeof tasks>('erofs')

/** root.json */
interface RootRecord {
  /** The diffIDs of its layers, lowest first. */
  readonly diffIds: readonly DiffId[]
  /** The tars that hold data, in the order of the device slots. */
  readonly tars: readonly { readonly path: string; readonly size: number }[]
  /** Bytes of the side file; 0 if there is none. */
  readonly side: number
  /** The sha256 of the metadata, in hex. */
  readonly sha256: string
}

/**
 * One EROFS for each image: metadata of ours over the layers' tars, which stay where they are. The
 * mount uses the files themselves where the kernel can do that (Linux 6.12, but not for files on
 * overlayfs). Otherwise it uses a loop device for each, which is detached when the mount ends.
 */
export class ErofsRoots extends MountedRoots {
  constructor(
    layout: Layout,
    readonly backing: 'file' | 'loop',
    private readonly memory: IndexMemory,
  ) {
    super(layout)
  }

  async make(chainId: ChainId, layers: readonly LayerFiles[], signal: AbortSignal): Promise<void> {
    await withWorkFolders(this.layout, deleteTree, async (fresh) => {
      const work = fresh()
      const { devices, side, sha256 } = await withStackMemory(this.memory, layers, signal, () =>
        inThread('root', { layers, chainId, folder: work }, signal),
      )
      const tars = devices.map((layer) => ({ path: layers[layer]!.tar, size: statSync(layers[layer]!.tar).size }))
      const diffIds = layers.map(({ diffId }) => diffId)
      commitRoot(this.layout, chainId, work, { diffIds, tars, side, sha256 } satisfies RootRecord)
    })
  }

  isUsable(chainId: ChainId): boolean {
    const record = this.#record(chainId)
    return (
      record !== undefined &&
      this.#files(chainId, record).every(({ path, size }) => statSync(path, { throwIfNoEntry: false })?.size === size)
    )
  }

  override async mount(chainId: ChainId, target: string): Promise<void> {
    const record = this.#record(chainId)
    if (!record) throw noRoot(chainId)
    const metadata = join(this.layout.root(chainId), METADATA)
    // The kernel trusts the metadata. So bytes that are not those that we wrote never reach it.
    const hash = createHash('sha256')
    await pipeline(createReadStream(metadata), hash)
    if (hash.digest('hex') !== record.sha256)
      throw new StrataError('corrupt', `the metadata of root ${chainId} are damaged`)
    this.#mountFiles([metadata, ...this.#files(chainId, record).map(({ path }) => path)], target)
  }

  #mountFiles(files: readonly string[], target: string): void {
    const loops: LoopDevice[] = []
    try {
      if (this.backing === 'loop')
        for (const file of files) loops.push(attachLoop(file, { readOnly: true, autoclear: true }))
      const [source, ...devices] = this.backing === 'loop' ? loops.map(({ device }) => device) : files
      mountFs({
        fstype: 'erofs',
        source: { path: source! },
        options: devices.map((path) => ['device', { path }]),
        target,
        readOnly: true,
        nosuid: true,
        nodev: true,
      })
    } finally {
      // From here on the mount alone keeps the loop devices.
      for (const { fd } of loops) closeSync(fd)
    }
  }

  layersOf(chainId: ChainId): readonly DiffId[] | undefined {
    return this.#record(chainId)?.diffIds
  }

  #record(chainId: ChainId): RootRecord | undefined {
    return readRecord(this.layout.rootRecord(chainId), isRootRecord)
  }

  #files(chainId: ChainId, record: RootRecord): RootRecord['tars'] {
    return record.side === 0
      ? record.tars
      : [...record.tars, { path: join(this.layout.root(chainId), SIDE), size: record.side }]
  }
}

function isRootRecord(value: unknown): value is RootRecord {
  return (
    isObject(value) &&
    typeof value['side'] === 'number' &&
    typeof value['sha256'] === 'string' &&
    isStack(value['diffIds']) &&
    Array.isArray(value['tars']) &&
    value['tars'].every((tar) => isObject(tar) && typeof tar['path'] === 'string' && typeof tar['size'] === 'number')
  )
}
