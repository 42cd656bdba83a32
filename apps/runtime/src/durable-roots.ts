import { randomUUID } from 'node:crypto'
import { readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import type { LayerFolder } from '@strata/layers'
import { ownFolder } from '@strata/linux'
import { DurableFolder } from '@strata/store'

/**
 * The folder of the snapshotter, whose roots are synced in the background. Roots that a loss of
 * power may have damaged are taken away first, and so are such layers (the extractor does the same;
 * whichever of the two is first in a boot): they are made again when they are wanted.
 *
 * Only the record of a root is looked at, because it is the last file of the root that is written,
 * and a driver may keep an image's whole tree beside it. The root goes to `tmp`, where the
 * snapshotter deletes it when it opens the folder: names in the tree may be no UTF-8.
 */
export async function openDurableRoots(
  snapshots: string,
  layers: LayerFolder,
  warn: (message: string) => void,
): Promise<DurableFolder> {
  await new DurableFolder(layers.path, { warn }).recover([''], (tail) => layers.removeHolding(tail))
  const durable = new DurableFolder(snapshots, { warn })
  const [roots, tmp] = [join(snapshots, 'roots'), join(snapshots, 'tmp')]
  for (const folder of [roots, tmp]) ownFolder(folder)
  await durable.recover(
    readdirSync(roots).map((root) => `roots/${root}/root.json`),
    (tail) => {
      for (const root of new Set(tail.map((record) => record.split('/')[1]!)))
        renameSync(join(roots, root), join(tmp, randomUUID()))
      return Promise.resolve()
    },
  )
  return durable
}
