import type { IndexMemory } from '@strata/layers'
import { StrataError } from '@strata/base'
import type { Snapshotter } from '../snapshotter.js'
import type { DriverName, Variant } from './drivers.js'
import { openSnapshotter } from './open-snapshotter.js'
import { probe, type ProbeResult } from './probe.js'

export interface SnapshotterOptions {
  /** Made with mode 0700 if it is missing. It must lie below a private mount of the caller's. */
  readonly folder: string
  /** Without it, the first driver of `DRIVERS` that works in the folder. */
  readonly driver?: DriverName | undefined
  /**
   * For each driver, the one variant that is allowed. Without an entry, the driver's first variant
   * that works in the folder.
   */
  readonly variants?: Readonly<Partial<Record<DriverName, string | undefined>>>
  /** The process's memory for the indexes of layers. */
  readonly memory?: IndexMemory
  /** Gets a sentence for each thing that dead processes left and that cannot be deleted now. */
  readonly warn?: (message: string) => void
}

export interface CreatedSnapshotter {
  readonly snapshotter: Snapshotter
  readonly chosen: ProbeResult
  /** The results of the chosen variant and of each one before it in `VARIANTS`, in that order. */
  readonly probes: readonly ProbeResult[]
}

/**
 * Tests the drivers in this folder, the best first, and opens the first one that works and is
 * allowed.
 * @throws StrataError `driver_unavailable` with the reasons if there is none
 */
export async function createSnapshotter(options: SnapshotterOptions): Promise<CreatedSnapshotter> {
  const isAllowed = ({ driver, variant }: Variant): boolean =>
    (options.driver ?? driver) === driver && (options.variants?.[driver] ?? variant) === variant
  const probes = await probe(options.folder, isAllowed, options.warn)
  const chosen = probes.find((one) => one.ok && isAllowed(one))
  if (!chosen) {
    const reasons = probes.filter(isAllowed).map(({ title, reason }) => `${title}: ${reason}`)
    throw new StrataError('driver_unavailable', `no storage driver works in ${options.folder}: ${reasons.join('; ')}`)
  }
  return { snapshotter: await openSnapshotter(options.folder, chosen, options.memory, options.warn), chosen, probes }
}
