import type { NodeUsage } from '@strata/api'
import type { Containers } from '@strata/containers'
import type { LayerFolder } from '@strata/layers'
import type { ChainId } from '@strata/oci'
import { parseSnapshotKey, type RootInfo, type Snapshotter } from '@strata/snapshots'

/**
 * Bytes on this node's disk: what containers have written, and the layers and roots that images
 * were made into. Active is what a snapshot or a mount stands on.
 */
export async function nodeUsage(
  snapshots: Snapshotter,
  layers: LayerFolder,
  containers: Containers,
): Promise<NodeUsage> {
  const written = await Promise.all(
    containers.list().map(async ({ id }) => ({ id, bytes: await writtenBytes(snapshots, id) })),
  )
  const used = new Set<ChainId>()
  for await (const { chainId } of snapshots.walk()) used.add(chainId)
  const roots: RootInfo[] = []
  for await (const root of snapshots.roots()) roots.push(root)
  const isActive = (root: RootInfo): boolean => root.usedAt !== undefined || used.has(root.chainId)
  const active = new Set(roots.filter(isActive).flatMap((root) => root.layers))
  const here = layers.list()
  const sizeOf = (diffIds: typeof here): number => diffIds.reduce((sum, diffId) => sum + layers.bytes(diffId), 0)
  const rootBytes = async (some: readonly RootInfo[]): Promise<number> =>
    (await snapshots.rootUsage(some.map(({ chainId }) => chainId))).bytes
  return {
    containers: written,
    layers: {
      total: here.length,
      active: here.filter((diffId) => active.has(diffId)).length,
      bytes: sizeOf(here) + (await rootBytes(roots)),
      reclaimable:
        sizeOf(here.filter((diffId) => !active.has(diffId))) +
        (await rootBytes(roots.filter((root) => !isActive(root)))),
    },
  }
}

/** What a container has written. One without a root has written nothing. */
export async function writtenBytes(snapshots: Pick<Snapshotter, 'usage'>, container: string): Promise<number> {
  return snapshots.usage(parseSnapshotKey(container)).then(
    ({ bytes }) => bytes,
    () => 0,
  )
}
