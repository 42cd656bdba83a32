import { INDEX_MEMORY } from '@strata/archive'
import { IndexMemory } from '@strata/layers'
import { ErofsDriver } from './erofs/erofs-driver.js'
import { SnapshotFolder } from './folder.js'
import { LayeredSnapshotter } from './layered-snapshotter.js'
import { OverlayDriver } from './overlay/overlay-driver.js'
import type { Snapshotter } from './snapshotter.js'

/** A driver with the way it works: what is probed and chosen as one. */
export type Variant = { readonly driver: 'erofs'; readonly erofs: 'file' | 'loop' } | { readonly driver: 'overlay' }

/** The best first. */
export const VARIANTS: readonly Variant[] = [
  { driver: 'erofs', erofs: 'file' },
  { driver: 'erofs', erofs: 'loop' },
  { driver: 'overlay' },
]

export function nameOf(variant: Variant): string {
  return variant.driver === 'erofs' ? `erofs (${variant.erofs === 'file' ? 'files' : 'loop devices'})` : 'overlay'
}

/** Without asking whether it works here. `memory`: of the process, for the indexes of layers. */
export function openSnapshotter(
  path: string,
  variant: Variant,
  memory = new IndexMemory(INDEX_MEMORY),
): Promise<Snapshotter> {
  const { folder, first } = SnapshotFolder.open(path)
  const driver =
    variant.driver === 'erofs' ? new ErofsDriver(folder, variant.erofs, memory) : new OverlayDriver(folder, memory)
  return LayeredSnapshotter.open(folder, first, driver)
}
