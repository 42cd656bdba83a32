import type { IndexMemory } from '@strata/layers'
import { StrataError } from '@strata/base'
import type { Snapshotter } from '../snapshotter.js'
import type { DriverName } from './drivers.js'
import { openSnapshotter } from './open-snapshotter.js'
import { probe, type ProbeResult } from './probe.js'

export interface SnapshotterOptions {
  /** Made if it is not there, 0700. It lies below a private mount of the caller's. */
  readonly folder: string
  /** Left out: the first of `DRIVERS` that works here. */
  readonly driver?: DriverName | undefined
  /** The variant of a driver. Left out: its first that works here. */
  readonly variants?: Readonly<Partial<Record<DriverName, string | undefined>>>
  /** Of the process, for the indexes of layers. */
  readonly memory?: IndexMemory
}

export interface CreatedSnapshotter {
  readonly snapshotter: Snapshotter
  readonly chosen: ProbeResult
  /** What every variant of every driver answered here, the best first. */
  readonly probes: readonly ProbeResult[]
}

/**
 * Tries every driver once, in this very folder, and opens the best that works and is allowed.
 * `driver_unavailable` with the reasons if none is.
 */
export async function createSnapshotter(options: SnapshotterOptions): Promise<CreatedSnapshotter> {
  const probes = await probe(options.folder)
  const allowed = probes.filter(
    ({ driver, variant }) =>
      (options.driver ?? driver) === driver && (options.variants?.[driver] ?? variant) === variant,
  )
  const chosen = allowed.find(({ ok }) => ok)
  if (!chosen) {
    const reasons = allowed.map(({ title, reason }) => `${title}: ${reason}`)
    throw new StrataError('driver_unavailable', `no storage driver works in ${options.folder}: ${reasons.join('; ')}`)
  }
  return { snapshotter: await openSnapshotter(options.folder, chosen, options.memory), chosen, probes }
}
