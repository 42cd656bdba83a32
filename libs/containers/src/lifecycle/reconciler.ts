import { readdir } from 'node:fs/promises'
import { asStrataError } from '@strata/base'
import type { Cgroups } from '../runtime/cgroups.js'
import { isContainerId } from './claim.js'
import type { ContainerRoots } from '../container.js'
import type { Entry } from './entry.js'
import { killMonitors, type Launcher } from './launcher.js'
import type { Lifecycle } from './lifecycle.js'
import type { RecordStore, UnreadableContainer } from './record-store.js'
import type { Registry } from './registry.js'
import type { RuntimeDriver } from '../runtime/runtime-driver.js'

/**
 * How many containers are looked after at once where all are: each costs a process of the runtime.
 */
const AT_ONCE = 4

export interface ReconcilerParts {
  readonly store: RecordStore
  readonly registry: Registry
  readonly launcher: Launcher
  readonly lifecycle: Lifecycle
  readonly driver: RuntimeDriver
  readonly cgroups: Cgroups
  readonly roots: ContainerRoots
  /** The folder of all bundles. */
  readonly bundles: string
  readonly warn: (message: string) => void
  readonly warnOf: (entry: Entry, what: string, error: unknown) => void
}

/**
 * Brings disk, runtime, monitors, mounts and cgroups of one node into agreement at the start of its
 * service, whatever the last one left: it may have died at any line.
 */
export class Reconciler {
  constructor(private readonly parts: ReconcilerParts) {}

  /** Fills the registry. One container that cannot be looked after keeps no other from that. */
  async run(): Promise<void> {
    const { store, registry, lifecycle, launcher } = this.parts
    const { records, leftovers, unreadable } = await store.open()
    for (const record of records.sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1))) registry.enter(record)
    for (const container of unreadable) await this.#putAside(container)
    await this.#dropStrangers(leftovers, unreadable)
    const entries = registry.entries()
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (let entry = entries.shift(); entry; entry = entries.shift()) {
          const one = entry
          // What it is will be seen at the next start.
          await one.log
            .make()
            .then(() => lifecycle.recover(one))
            .catch((error: unknown) => this.parts.warnOf(one, 'cannot tell what became of', error))
        }
      }),
    )
    await launcher.adoptMonitors()
  }

  /**
   * A container whose record cannot be read. Nobody could stop it any more, so what runs of it
   * ends, and its name is free. What it has written may be all that somebody has of his work: that
   * stays, with its folder, until sixteen newer ones came.
   */
  async #putAside({ id, why }: UnreadableContainer): Promise<void> {
    const { launcher, store, roots, warn } = this.parts
    const name = `container ${id.slice(0, 12)}`
    try {
      await killMonitors(launcher.bundleOf(id))
      await launcher.clean({ id })
      const aside = await store.putAside(id)
      warn(
        `${why}: ${name} is not served any more, and ended if it ran; its folder is kept as ${aside}, and what it wrote under its id among the snapshots`,
      )
      for (const old of await store.asideBeyond()) {
        await roots.remove({ id: old })
        await store.dropAside(old)
      }
    } catch (error) {
      warn(`${why}: ${name} cannot be put aside: ${asStrataError(error).message}`)
    }
  }

  /** One cause that keeps the runtime's state from being read keeps no container from its work. */
  async #inRuntime(): Promise<string[]> {
    try {
      return await this.parts.driver.list()
    } catch (error) {
      this.parts.warn(
        `cannot tell what else the runtime has (the next start of the service looks again): ${asStrataError(error).message}`,
      )
      return []
    }
  }

  /**
   * What this node has in the runtime, among bundles and cgroups but not on disk; and folders whose
   * removal was interrupted.
   */
  async #dropStrangers(leftovers: readonly string[], unreadable: readonly UnreadableContainer[]): Promise<void> {
    const { launcher, store, registry, roots, cgroups, warn } = this.parts
    const bundles = await readdir(this.parts.bundles).catch(() => [])
    const known = new Set([...registry.records(), ...unreadable].map(({ id }) => id))
    const found = [...leftovers, ...bundles, ...(await this.#inRuntime()), ...cgroups.list()]
    for (const id of new Set(found.filter((one) => !known.has(one)))) {
      try {
        // Its folder says so until all of it is gone: the next start of the service goes on with
        // what this one cannot do, and the node serves meanwhile.
        if (isContainerId(id)) await store.markLeftover(id)
        await killMonitors(launcher.bundleOf(id))
        await launcher.clean({ id })
        if (!isContainerId(id)) continue
        await roots.remove({ id })
        await store.drop(id)
      } catch (error) {
        warn(`cannot remove what is left of container ${id.slice(0, 12)}: ${asStrataError(error).message}`)
      }
    }
  }
}
