import type { LoggerService } from '@nestjs/common'
import type { PrunedContainer } from '@strata/api'
import { asStrataError } from '@strata/base'
import type { Containers } from '@strata/containers'
import type { Snapshotter } from '@strata/snapshots'
import { writtenBytes } from './node-usage.js'

/**
 * Removes the containers that may be removed unnamed (`Containers.isPrunable`), or only tells
 * which. One that cannot be removed now (`in_use`: a process of the host works in its root) stays,
 * with a warning, and keeps no other: the answer tells of all that are gone.
 *
 * @param isAwaited whether a start of it was asked for, of which the node may not know yet
 */
export async function prune(
  containers: Pick<Containers, 'list' | 'isPrunable' | 'prune'>,
  snapshots: Pick<Snapshotter, 'usage'>,
  isAwaited: (container: string) => Promise<boolean>,
  dryRun: boolean,
  logger: Pick<LoggerService, 'log' | 'warn'>,
): Promise<PrunedContainer[]> {
  const pruned: PrunedContainer[] = []
  for (const { id, name } of containers.list()) {
    if (!containers.isPrunable(id)) continue
    try {
      const bytes = await writtenBytes(snapshots, id)
      // Only now: the look at all that it wrote may take minutes.
      const goes = dryRun
        ? containers.isPrunable(id) && !(await isAwaited(id))
        : await containers.prune(id, async () => !(await isAwaited(id)))
      if (!goes) continue
      if (!dryRun) logger.log({ container: id }, `removed the container ${name}`)
      pruned.push({ id, bytes })
    } catch (error) {
      const { code, message } = asStrataError(error)
      // Of no container can be told then whether its start was asked for, and each would wait.
      if (code === 'queue_unavailable') throw error
      logger.warn({ container: id }, `the container ${name} stays: ${message}`)
    }
  }
  return pruned
}
