import type { IndexMemory } from '@strata/layers'
import { StrataError } from '@strata/base'
import type { Snapshotter } from '../snapshotter.js'
import type { DriverName, Variant } from './drivers.js'
import { openSnapshotter } from './open-snapshotter.js'
import { probe, type ProbeResult } from './probe.js'

export interface SnapshotterOptions {
  /** Made with mode 0700 if it is missing. It must lie below a private mount of the caller's. */
  readonly folder: string
  /** Without it, the first of `DRIVERS` that works here. */
  readonly driver?: DriverName | undefined
  /** By driver, the variant that is allowed. Without it, the driver's first that works here. */
  readonly variants?: Readonly<Partial<Record<DriverName, string | undefined>>>
  /** The process's memory for the indexes of layers. */
  readonly memory?: IndexMemory
  /** Told of what dead processes left and what cannot be deleted now. */
  readonly warn?: (message: string) => void
}

export interface CreatedSnapshotter {
  readonly snapshotter: Snapshotter
  readonly chosen: ProbeResult
  /** Of each variant that is better than the chosen one, and of that: the best first. */
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
