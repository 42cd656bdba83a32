import type { IndexMemory } from '@strata/layers'
import { StrataError } from '@strata/base'
import { probeVariant } from './probe.js'
import type { Snapshotter } from './snapshotter.js'
import { nameOf, openSnapshotter, VARIANTS } from './variant.js'

export interface SnapshotterOptions {
  /**
   * The driver's own; made if it is not there, 0700. It lies below a private mount of the caller's.
   */
  readonly folder: string
  /** Without it the first that works here of erofs on files, erofs on loop devices, overlay. */
  readonly driver?: 'erofs' | 'overlay' | undefined
  /** How EROFS reaches its files; without it `file` where that works, else `loop`. */
  readonly erofs?: 'file' | 'loop' | undefined
  /** Of the process, for the indexes of layers. */
  readonly memory?: IndexMemory
}

/**
 * The driver that was asked for, or the best that works here, after it has shown in this very
 * folder that it does. `driver_unavailable` with the reasons if none of those does.
 */
export async function createSnapshotter(options: SnapshotterOptions): Promise<Snapshotter> {
  const failed: string[] = []
  for (const variant of VARIANTS) {
    if (options.driver !== undefined && variant.driver !== options.driver) continue
    if (options.erofs !== undefined && variant.driver === 'erofs' && variant.erofs !== options.erofs) continue
    const result = await probeVariant(options.folder, variant)
    if (result.ok) return openSnapshotter(options.folder, variant, options.memory)
    failed.push(`${nameOf(variant)}: ${result.reason}`)
  }
  throw new StrataError('driver_unavailable', `no storage driver works in ${options.folder}: ${failed.join('; ')}`)
}
