import { failpoint, StrataError } from '@strata/base'
import { waitsForStart, type ContainerRoots } from '../container.js'
import type { Entry } from './entry.js'
import type { Launcher } from './launcher.js'
import type { RecordStore } from './record-store.js'
import type { Registry } from './registry.js'

/**
 * Removes containers that do not run: the root's mount, if its launch left one, tombstone, what a
 * launch left, root, record, in this order. After the tombstone the next start finishes what a
 * crash interrupts.
 */
export class Remover {
  constructor(
    private readonly store: RecordStore,
    private readonly registry: Registry,
    private readonly launcher: Launcher,
    private readonly roots: ContainerRoots,
    /** How long the foreground reader of an exited container may still come. */
    private readonly collectMs: number,
  ) {}

  /**
   * Fine if it was removed before.
   * @throws StrataError `container_running`; `in_use` while a process of the host works in its root
   */
  async remove(entry: Entry): Promise<void> {
    await entry.alone(async () => {
      if (entry.removed) return
      if (entry.state.status === 'running')
        throw new StrataError(
          'container_running',
          `container ${entry.record.id.slice(0, 12)} has been started meanwhile: stop it first, or force`,
        )
      await this.removeNow(entry)
    })
  }

  /** The rule is in `Containers.isPrunable`. */
  isPrunable(entry: Entry): boolean {
    const { state, record } = entry
    if (entry.removed || entry.holders > 0) return false
    if (waitsForStart(record)) return true
    if (state.status !== 'exited' || record.idle || record.autoRemove) return false
    return !record.attached || entry.attended || Date.now() - Date.parse(state.finishedAt) > this.collectMs
  }

  /** Looks and removes in the container's turn: no launch comes between. */
  async prune(entry: Entry): Promise<boolean> {
    return await entry.alone(async () => {
      if (!this.isPrunable(entry)) return false
      await this.removeNow(entry)
      return true
    })
  }

  /** As `remove`, in the container's turn, of one that does not run. */
  async removeNow(entry: Entry): Promise<void> {
    const { id } = entry.record
    // First: while somebody works in the root nothing of the container is removed.
    await this.roots.unmount(entry.record)
    await this.store.bury(id)
    failpoint('remove.container-buried')
    if (this.launcher.isUnclean(id)) await this.launcher.clean(entry.record)
    await this.roots.remove(entry.record)
    failpoint('remove.root-removed')
    await this.store.drop(id)
    failpoint('remove.record-dropped')
    this.registry.drop(entry)
    this.registry.announce(id, undefined)
  }
}
