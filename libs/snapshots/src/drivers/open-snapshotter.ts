import { INDEX_MEMORY } from '@strata/archive'
import { IndexMemory } from '@strata/layers'
import { Bookkeeping } from '../bookkeeping/bookkeeping.js'
import { SnapshotFolder } from '../bookkeeping/layout.js'
import type { Snapshotter } from '../snapshotter.js'
import { driverRow, type Variant } from './drivers.js'

/**
 * Opens a driver on a folder, without testing whether it works there. `memory`: the process's
 * memory for the indexes of layers. `warn` gets a sentence for each thing that dead processes left
 * and that cannot be deleted.
 */
export async function openSnapshotter(
  path: string,
  { driver, variant }: Pick<Variant, 'driver' | 'variant'>,
  memory = new IndexMemory(INDEX_MEMORY),
  warn?: (message: string) => void,
): Promise<Snapshotter> {
  const row = driverRow(driver)
  const open = await row.open()
  const { folder, first } = SnapshotFolder.open(path, row.folders)
  try {
    return await Bookkeeping.open(folder, first, open({ layout: folder, variant, memory }), warn)
  } catch (error) {
    folder.close()
    throw error
  }
}
