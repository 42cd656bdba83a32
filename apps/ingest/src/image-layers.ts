import { expectIndexMemory, INDEX_MEMORY, stackMemory } from '@strata/archive'
import { atMost, StrataError } from '@strata/base'
import type { DiffId } from '@strata/oci'
import type { LayerRef } from '@strata/queue'
import { keys, type BlobStore, type ObjectStore } from '@strata/store'

/** Indexes of layers that are looked at at the same time. */
const AT_ONCE = 16

/** The layers of images that a job makes: whether they are proven, and whether a node has room. */
export class ImageLayers {
  constructor(
    private readonly store: ObjectStore,
    private readonly blobs: BlobStore,
    /** Bytes of memory for indexes that a process has, here and on every node. */
    private readonly indexMemory = INDEX_MEMORY,
  ) {}

  /**
   * Layers that nobody has proven yet: the blob's diffID is not known, or is known and its index is
   * not there. `isPlain`: its blob is its tar, which was noted when it
   * was kept.
   * @throws StrataError `digest_mismatch` if a blob is known to unpack to something else
   */
  async unproven<L extends LayerRef>(layers: readonly L[], isPlain: (layer: L) => boolean = () => false): Promise<L[]> {
    const proven = await Promise.all(
      layers.map(async (layer) => {
        const { digest, diffId } = layer
        const known = isPlain(layer) ? diffId : (await this.blobs.stat(digest))?.diffId
        if (known !== undefined && known !== diffId)
          throw new StrataError(
            'digest_mismatch',
            `the layer ${digest} unpacks to ${known}, but the image's config lists ${diffId}`,
          )
        return known !== undefined && (await this.store.stat(keys.index(diffId))) !== undefined
      }),
    )
    return layers.filter((_, index) => !proven[index])
  }

  /** An image whose root no node could assemble gets no name. `what`: in a sentence. */
  async expectRoom(images: readonly { readonly what: string; readonly diffIds: readonly DiffId[] }[]): Promise<void> {
    const sizes = new Map<DiffId, number>()
    await atMost(AT_ONCE, new Set(images.flatMap(({ diffIds }) => diffIds)), async (diffId) => {
      sizes.set(diffId, (await this.store.stat(keys.index(diffId)))?.size ?? 0)
    })
    for (const { what, diffIds } of images) {
      const bytes = diffIds.reduce((sum, diffId) => sum + (sizes.get(diffId) ?? 0), 0)
      expectIndexMemory(stackMemory(bytes), what, this.indexMemory)
    }
  }
}
