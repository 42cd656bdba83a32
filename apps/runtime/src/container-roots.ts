import { rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { ContainerRecord, ContainerRoots } from '@strata/containers'
import { mountAll, parseSnapshotKey, unmountAll, type Snapshotter } from '@strata/snapshots'
import { mountTable } from '@strata/linux'
import { asCode, StrataError } from '@strata/base'

/**
 * Containers' writable roots: a snapshot each, under the container's id, mounted at
 * `<folder>/<id>`.
 */
export class SnapshotRoots implements ContainerRoots {
  constructor(
    private readonly snapshots: Snapshotter,
    private readonly folder: string,
  ) {}

  async mount({ id, image, autoRemove = false }: ContainerRecord): Promise<string> {
    const target = this.#target(id)
    if (mountTable().some(({ mountPoint }) => mountPoint === target)) return target
    // Of what is removed when it has exited, a stop of the machine leaves at most what a launch put
    // into its root before anything ran.
    const prepared = this.snapshots.prepare(parseSnapshotKey(id), image.chainId, { isVolatile: autoRemove })
    mountAll(await prepared.catch(ofContainer), target)
    return target
  }

  unmount({ id }: ContainerRecord): Promise<void> {
    return unmountAll(this.#target(id))
  }

  assertUnused({ id }: ContainerRecord): void {
    const user = this.snapshots.userOf(parseSnapshotKey(id))
    if (user !== undefined)
      throw new StrataError(
        'in_use',
        `what container ${id.slice(0, 12)} has written is mounted at ${user}: unmount that, then try again`,
      )
  }

  /** @throws StrataError `in_use` while a process works in the root, or another mount shows it */
  async remove({ id }: ContainerRecord): Promise<void> {
    const target = this.#target(id)
    await unmountAll(target)
    await rmdir(target).catch(() => undefined)
    await this.snapshots.remove(parseSnapshotKey(id))
  }

  #target(id: string): string {
    return join(this.folder, id)
  }
}

/** A snapshot under a container's id is that container to those who asked. */
function ofContainer(error: unknown): never {
  throw asCode(error, { exists: 'container_exists' })
}
