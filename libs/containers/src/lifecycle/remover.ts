import { failpoint } from '@strata/base'
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
   * Fine if it was removed before. Nothing happens to one that runs: an answer and no error, so
   * that a caller who stops it and tries again takes no other refusal for that.
   * @throws StrataError `in_use` while a process or a mount of the host uses its root
   */
  async remove(entry: Entry): Promise<'removed' | 'running'> {
    return await entry.alone(async () => {
      if (!entry.removed && entry.state.status === 'running') return 'running'
      if (!entry.removed) await this.removeNow(entry)
      return 'removed'
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

  /** Looks, asks and removes in the container's turn: no launch comes between. */
  async prune(entry: Entry, mayGo: () => Promise<boolean>): Promise<boolean> {
    return await entry.alone(async () => {
      // Again behind the question: somebody may have come to wait for it.
      if (!this.isPrunable(entry) || !(await mayGo()) || !this.isPrunable(entry)) return false
      await this.removeNow(entry)
      return true
    })
  }

  /** As `remove`, in the container's turn, of one that does not run. */
  async removeNow(entry: Entry): Promise<void> {
    const { id } = entry.record
    // First: while somebody uses the root nothing of the container is removed.
    await this.roots.unmount(entry.record)
    this.roots.assertUnused(entry.record)
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
