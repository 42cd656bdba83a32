import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { LayerFolder } from '@strata/layers'
import { DurableFolder } from '@strata/store'

/**
 * The folder of the snapshotter, whose roots are synced in the background. Roots that a loss of
 * power may have damaged are taken away first, and so are such layers (the extractor does the same;
 * whichever of the two is first in a boot): they are made again when they are wanted.
 */
export async function openDurableRoots(
  snapshots: string,
  layers: LayerFolder,
  warn: (message: string) => void,
): Promise<DurableFolder> {
  await new DurableFolder(layers.path, { warn }).recover([''], (tail) => layers.removeHolding(tail))
  const durable = new DurableFolder(snapshots, { warn })
  await durable.recover(['roots/'], async (tail) => {
    for (const root of new Set(tail.map((file) => file.split('/')[1]!)))
      await rm(join(snapshots, 'roots', root), { recursive: true })
  })
  return durable
}
