import type { ImageRef } from '@strata/api'
import { LayerFolder } from '@strata/layers'
import { chainIdOf, type ChainId } from '@strata/oci'
import { QUEUES, type NewJob } from '@strata/queue'
import { parseSnapshotKey, type Snapshotter } from '@strata/snapshots'

/** Images' read-only roots, of the layers that the extractor of this node has made usable. */
export class ImageRoots {
  constructor(
    private readonly snapshots: Snapshotter,
    private readonly layers: LayerFolder,
    private readonly node: string,
    /** Called when a root was made. */
    private readonly made: () => void,
  ) {}

  /**
   * An `extract` child for each layer that is not on this node; none where the root is assembled
   * already. `round` tells jobs for the same layers apart that are asked for again.
   */
  async missing(root: string, image: ImageRef, round = ''): Promise<NewJob<'extract'>[]> {
    if (await this.snapshots.isAssembled(this.chainId(image))) return []
    const absent = new Map(
      image.layers.filter(({ diffId }) => !this.layers.has(diffId)).map((layer) => [layer.diffId, layer]),
    )
    // The largest first: what is begun last ends last. Named by what it is: several images of one
    // request may ask for the same layer, each for its own parent.
    return [...absent.values()]
      .sort((one, other) => other.size - one.size)
      .map((layer, index) => ({
        name: 'extract',
        queue: QUEUES.extractOn(this.node),
        id: `${root}-${image.id.slice(7, 19)}-${round}${index}-${layer.digest.slice(7, 19)}`,
        data: { root, layer },
      }))
  }

  async assemble(image: ImageRef, signal: AbortSignal): Promise<ChainId> {
    const chainId = this.chainId(image)
    if (await this.snapshots.isAssembled(chainId)) return chainId
    await this.snapshots.assemble(
      image.layers.map(({ diffId }) => this.layers.paths(diffId)),
      signal,
    )
    this.made()
    return chainId
  }

  isAssembled(chainId: ChainId): Promise<boolean> {
    return this.snapshots.isAssembled(chainId)
  }

  /** After a launch that failed: unmounts the root, unless something else needs it. */
  async release(chainId: ChainId, container: string): Promise<void> {
    await this.snapshots.releaseRoot(chainId, parseSnapshotKey(container))
  }

  chainId(image: ImageRef): ChainId {
    return chainIdOf(image.layers.map(({ diffId }) => diffId))
  }
}
