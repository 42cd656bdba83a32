import type { ContainerRecord, Containers } from '@strata/containers'
import type { Images } from '@strata/images'
import type { LayerFolder } from '@strata/layers'
import { failpoint, Serial, StrataError } from '@strata/base'
import { chainIdOf, type ChainId, type DiffId } from '@strata/oci'
import type { NodeCleaning } from '@strata/api'
import type { JobData } from '@strata/queue'
import type { RootInfo, Snapshotter } from '@strata/snapshots'
import { digestInKey, listAll, PREFIX, type ObjectStore } from '@strata/store'

type Clean = JobData<'clean'>

/** What the store's images and loads have use for on a node. */
interface Wanted {
  readonly roots: ReadonlySet<ChainId>
  readonly layers: ReadonlySet<DiffId>
}

/**
 * Takes roots and layers off this node that nobody needs. Both are made again from the store when
 * they are wanted, so the one law that counts is about those who cannot ask again: **what a
 * container or a mount needs stays, and what a launch under way was found to have stays.**
 *
 * A root is needed by an image of the store that has its chain id, by a container of this node
 * (from its claim on, before anything of it runs), by a snapshot, or by a mount that stands on it
 * (the snapshotter refuses those two). A layer is needed by an image of the store, by a root that
 * stays, by a container of this node, or by a load under way: its index is in the store, which the
 * collector keeps as long as a blob's record names the layer (collector.ts).
 *
 * The order: (1) what is here is listed, (2) *then* what the store needs is read, roots first and
 * then layers, (3) *then* each of the rest goes, after the containers were looked at once more,
 * with nothing in between: one turn of the event loop. A launch claims its container in this same
 * process *before* it looks for its root and layers (`place`). So either its claim was seen in 3
 * and all that it found stays, or it found the thing gone, and asked for it. A load that has its
 * image assembled claims nothing: it may lose root or layers between two of its steps, and its jobs
 * ask again for what has gone (NodeJobs); at the worst the image is assembled once more, when it is
 * launched.
 *
 * Killed at any line: roots and layers go by a rename each, and what was renamed away is deleted at
 * the next start.
 */
export class NodeCleaner {
  readonly #cleanings = new Serial()

  constructor(
    private readonly snapshots: Snapshotter,
    private readonly layers: LayerFolder,
    private readonly containers: Containers,
    private readonly images: Images,
    private readonly store: ObjectStore,
  ) {}

  /** One after another, so that each counts what it freed itself. */
  clean(data: Clean): Promise<NodeCleaning> {
    return this.#cleanings.run(() => this.#clean(data))
  }

  async #clean(data: Clean): Promise<NodeCleaning> {
    const here = { roots: await gather(this.snapshots.roots()), layers: this.layers.list() }
    const wanted = await this.#wanted(data)
    const roots = await this.#cleanRoots(
      here.roots.filter(({ chainId }) => !wanted.roots.has(chainId)),
      data,
    )
    const staying = new Set(
      here.roots.filter(({ chainId }) => !roots.gone.has(chainId)).flatMap(({ layers }) => layers),
    )
    const layers = await this.#cleanLayers(
      here.layers.filter((diffId) => !wanted.layers.has(diffId) && !staying.has(diffId)),
      data,
    )
    return { roots: { count: roots.gone.size, bytes: roots.bytes }, layers, bytes: roots.bytes + layers.bytes }
  }

  async #cleanRoots(candidates: readonly RootInfo[], data: Clean): Promise<{ gone: Set<ChainId>; bytes: number }> {
    const gone = new Set<ChainId>()
    if (data.dryRun) {
      const snapshots = await gather(this.snapshots.walk())
      for (const { chainId, usedAt } of candidates) {
        const hasChild = snapshots.some(
          (snapshot) => snapshot.chainId === chainId && !data.absent.containers.includes(snapshot.key),
        )
        if (usedAt === undefined && !hasChild && !this.#isClaimed(data, ({ image }) => image.chainId === chainId))
          gone.add(chainId)
      }
      return { gone, bytes: (await this.snapshots.rootUsage([...gone])).bytes }
    }
    let bytes = 0
    for (const { chainId } of candidates) {
      const freed = await this.snapshots
        .removeRoot(chainId, () => this.#isClaimed(data, ({ image }) => image.chainId === chainId))
        .catch((error: unknown) => {
          if (error instanceof StrataError && error.code === 'in_use') return undefined
          throw error
        })
      if (!freed || freed.inodes === 0) continue
      failpoint('clean.root-removed')
      gone.add(chainId)
      bytes += freed.bytes
    }
    return { gone, bytes }
  }

  async #cleanLayers(candidates: readonly DiffId[], data: Clean): Promise<{ count: number; bytes: number }> {
    let [count, bytes] = [0, 0]
    for (const diffId of candidates) {
      if (this.#isClaimed(data, ({ image }) => image.layers?.includes(diffId) ?? false)) continue
      // A dry run counts a layer that is a link to its blob as a whole: the collection takes the
      // blob first.
      const freed = this.layers.bytes(diffId, !data.dryRun)
      if (freed === 0) continue
      if (!data.dryRun) {
        await this.layers.remove(diffId)
        failpoint('clean.layer-removed')
      }
      count++
      bytes += freed
    }
    return { count, bytes }
  }

  #isClaimed({ absent }: Clean, needs: (container: ContainerRecord) => boolean): boolean {
    return this.containers.list().some((container) => needs(container) && !absent.containers.includes(container.id))
  }

  async #wanted({ absent }: Clean): Promise<Wanted> {
    const roots = new Set<ChainId>()
    const layers = new Set<DiffId>()
    for await (const stack of this.images.all.stacks(new Set(absent.images))) {
      roots.add(chainIdOf(stack))
      for (const diffId of stack) layers.add(diffId)
    }
    const unindexed = new Set<string>(absent.indexes)
    for await (const { key } of listAll(this.store, PREFIX.indexes)) {
      const diffId = digestInKey(key)
      if (diffId && !unindexed.has(diffId)) layers.add(diffId as DiffId)
    }
    return { roots, layers }
  }
}

async function gather<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}
